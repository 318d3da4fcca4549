-- Tells which sessions ended early since a moment.
-- KEYS: as of end.lua. ARGV: that moment, in milliseconds.
-- Returns {now, how many are known, "session:expiry"…}, all of them where the clock has gone back.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local since = tonumber(ARGV[1])
if now < since then since = 0 end
local out = redis.call('ZRANGEBYSCORE', KEYS[1], since, now)
table.insert(out, 1, redis.call('ZCOUNT', KEYS[2], '(' .. string.format('%.0f', now), '+inf'))
table.insert(out, 1, string.format('%.0f', now))
return out
