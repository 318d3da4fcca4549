-- Ends a session: its room in the shop is free.
-- ARGV: time, session id. Returns 1 when it was live.
return redis.call('ZREM', KEYS[17], ARGV[2])
