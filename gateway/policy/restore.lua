-- Brings policies back that Redis has lost, where it knows none as new.
-- KEYS[1]  hash: the policies and their version
-- ARGV     version, document, at, by
-- Returns 1 when they were brought back.
if tonumber(redis.call('HGET', KEYS[1], 'version') or '0') >= tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'version', ARGV[1], 'document', ARGV[2], 'at', ARGV[3], 'by', ARGV[4])
return 1
