-- GCRA decisions for many keys of one policy (Decide in gcra.go is the definition;
-- this remembers it).
-- KEYS     the keys' theoretical arrival times, microseconds of Redis TIME; all of one
--          slot, one of them as often as it is asked for
-- ARGV[1]  interval: microseconds that one request costs
-- ARGV[2]  tolerance: interval × burst
-- ARGV[3…] the cost of each key's request
-- Returns {now, time before of KEYS[1], of KEYS[2], …}, in microseconds. A key is
-- written only when its request is allowed, and expires when it can deny nothing more.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval, limit = tonumber(ARGV[1]), now + ARGV[2]
local answer = {now}
for i, key in ipairs(KEYS) do
  local before = tonumber(redis.call('GET', key) or '0')
  local next = math.max(before, now) + ARGV[i + 2] * interval
  if next <= limit then
    redis.call('SET', key, string.format('%.0f', next), 'PX', math.ceil((next - now) / 1000))
  end
  answer[i + 1] = before
end
return answer
