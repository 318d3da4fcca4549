-- Puts an operator's policies into force if those that the operator changed still are, and
-- keeps the change for the record.
-- KEYS[1]  hash: the policies and their version
-- KEYS[2]  stream of changes for the Recorder
-- ARGV     version that was changed (0 for none), document, change's id, actor, actor's id,
--          request id, document before
-- Returns the new version, or '' when others were faster.
local version = tonumber(redis.call('HGET', KEYS[1], 'version') or '0')
if version ~= tonumber(ARGV[1]) then return '' end
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
-- By the clock, so that a version is newer than all that an emptied Redis has forgotten.
local next = string.format('%.0f', math.max(version + 1, tonumber(now)))
redis.call('HSET', KEYS[1], 'version', next, 'document', ARGV[2], 'at', now, 'by', ARGV[4])
redis.call('XADD', KEYS[2], 'MAXLEN', '100', '*', 'id', ARGV[3], 'at', now, 'actor', ARGV[4], 'actor_id', ARGV[5],
  'request_id', ARGV[6], 'before', ARGV[7], 'after', ARGV[2], 'version', next)
return next
