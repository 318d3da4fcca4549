-- Counts an attempt to sign in within a window that starts with the first.
-- KEYS[1] counter
-- ARGV[1] window, seconds
-- Returns {attempts in this window with this one, milliseconds until it ends}.
local n = redis.call('INCR', KEYS[1])
if n == 1 then
  redis.call('EXPIRE', KEYS[1], ARGV[1])
end
return {n, redis.call('PTTL', KEYS[1])}
