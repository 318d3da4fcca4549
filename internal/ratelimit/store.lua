-- GCRA for many keys, of one policy or of many (Decide in gcra.go is the definition; this
-- remembers it).
-- KEYS     the keys' theoretical arrival times, microseconds of Redis TIME; all of one
--          slot, one of them as often as it is asked for
-- ARGV     of each key four: interval (microseconds that a request costs), tolerance
--          (interval × burst), debt (requests that are charged whatever comes of it;
--          negative: given back), cost (of the request that is decided on)
-- Returns {now, arrival time of KEYS[1] with the debt and before the cost, of KEYS[2], …},
-- in microseconds. The cost is written only when it is allowed; what is left of a wider
-- quota, or of a clock that went back, is cut to what Decide makes of it. A key expires when
-- it can deny nothing more.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local answer = { now }
for i, key in ipairs(KEYS) do
  local at = 4 * (i - 1)
  local interval, tolerance, debt, cost = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
  local kept = tonumber(redis.call('GET', key) or '0')
  local before = math.min(math.max(math.max(kept, now) + debt * interval, now), now + 2 * tolerance)
  local next = before + cost * interval
  if next > now + tolerance then next = before end
  if next <= now then
    if kept > now then redis.call('DEL', key) end
  elseif next ~= kept then
    redis.call('SET', key, string.format('%.0f', next), 'PX', math.ceil((next - now) / 1000))
  end
  answer[i + 1] = before
end
return answer
