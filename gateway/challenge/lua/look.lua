-- What is owed.
-- KEYS  buckets: times until which they are full, microseconds of Redis TIME
-- Returns {microseconds that each is ahead of now, 0 for one that is empty}.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local ahead = redis.call('MGET', unpack(KEYS))
for i, at in ipairs(ahead) do ahead[i] = math.max(0, tonumber(at or '0') - now) end
return ahead
