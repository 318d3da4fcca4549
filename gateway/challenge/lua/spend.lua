-- Spends one answer, if it is dear enough for what is owed now.
-- KEYS[1]   the set in which its serial belongs
-- KEYS[2…]  the buckets that it fills: see look.lua
-- ARGV[1]   serial, an integer, so that small sets take eight bytes each
-- ARGV[2]   milliseconds after which no answer of this set is good any more
-- ARGV[3…]  of each bucket: microseconds a unit, the most units kept, the most units owed
--           at which the answer is dear enough
-- Returns 'ok', 'spent' (it was before) or 'cheap' (and nothing is changed).
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local full = {}
for i = 2, #KEYS do
  local at = 3 * (i - 2) + 3
  full[i] = math.max(now, tonumber(redis.call('GET', KEYS[i]) or '0'))
  if math.ceil((full[i] - now) / ARGV[at]) > tonumber(ARGV[at + 2]) then return 'cheap' end
end
if redis.call('SADD', KEYS[1], ARGV[1]) == 0 then return 'spent' end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
for i = 2, #KEYS do
  local at = 3 * (i - 2) + 3
  full[i] = math.min(full[i] + ARGV[at], now + ARGV[at] * ARGV[at + 1])
  redis.call('SET', KEYS[i], string.format('%.0f', full[i]), 'PX', math.ceil((full[i] - now) / 1000))
end
return 'ok'
