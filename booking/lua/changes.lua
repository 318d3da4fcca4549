-- Publishes what changed as the next version and returns what a reader lacks.
-- ARGV 2 length of the map, 3 the version that the reader has, or '' for a snapshot,
--      4 how many versions the log keeps
-- Returns {'snapshot', version, map} | {'changes', version, one text per version} | {'missing'}
if missing(ARGV[2]) then return {'missing'} end
expire()
local units = redis.call('SMEMBERS', dirty)
if #units > 0 then
	local changed = {}
	for i, unit in ipairs(units) do
		changed[i] = unit .. '=' .. string.byte(state(unit))
	end
	redis.call('DEL', dirty)
	redis.call('HINCRBY', meta, 'version', 1)
	redis.call('RPUSH', log, table.concat(changed, ' '))
	redis.call('LTRIM', log, -ARGV[4], -1)
	for _, key in ipairs({map, own, due, meta, log}) do
		redis.call('PEXPIRE', key, 30 * DAY)
	end
end
local version = redis.call('HGET', meta, 'version')
local kept = redis.call('LLEN', log)
local behind = ARGV[3] ~= '' and version - ARGV[3] or -1
if behind < 0 or behind > kept then
	return {'snapshot', version, redis.call('GET', map)}
end
return {'changes', version, behind > 0 and redis.call('LRANGE', log, -behind, -1) or {}}
