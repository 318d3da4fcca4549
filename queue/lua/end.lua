-- Ends sessions before their passes expire. Alone of all scripts it belongs to no room.
-- KEYS: usher:{ended}:from, usher:{ended}:till: sorted sets of "session:expiry" by when the
--   pass is refused from, and by when it expires, which is when an entry goes.
-- ARGV: milliseconds from now until the passes are refused, most entries, then session
--   and expiry (Unix milliseconds) of each.
-- Returns 0.
local from, till = KEYS[1], KEYS[2]
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
for _, member in ipairs(redis.call('ZRANGEBYSCORE', till, '-inf', now, 'LIMIT', 0, 1000)) do
  redis.call('ZREM', till, member)
  redis.call('ZREM', from, member)
end
for i = 3, #ARGV, 2 do
  if tonumber(ARGV[i + 1]) > now then
    local member = ARGV[i] .. ':' .. ARGV[i + 1]
    redis.call('ZADD', from, 'LT', now + ARGV[1], member)
    redis.call('ZADD', till, ARGV[i + 1], member)
  end
end
while redis.call('ZCARD', till) > tonumber(ARGV[2]) do -- who ends soonest gains least
  redis.call('ZREM', from, redis.call('ZPOPMIN', till)[1])
end
local last = redis.call('ZREVRANGE', till, 0, 0, 'WITHSCORES')[2]
if last then
  redis.call('PEXPIREAT', from, last)
  redis.call('PEXPIREAT', till, last)
end
return 0
