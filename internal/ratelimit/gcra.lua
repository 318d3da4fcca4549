-- One GCRA decision (Decide in gcra.go is the definition; this remembers it).
-- KEYS[1]  the key's theoretical arrival time, microseconds of Redis TIME
-- ARGV[1]  interval: microseconds that one request costs
-- ARGV[2]  tolerance: interval × burst
-- ARGV[3]  cost
-- Returns {tat before, now}, both in microseconds. The key is written only when
-- the request is allowed, and expires when it can deny nothing any more.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local before = tonumber(redis.call('GET', KEYS[1]) or '0')
local next = math.max(before, now) + ARGV[3] * ARGV[1]
if next <= now + ARGV[2] then
  redis.call('SET', KEYS[1], string.format('%.0f', next), 'PX', math.ceil((next - now) / 1000))
end
return {before, now}
