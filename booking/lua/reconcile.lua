-- Makes the map say what Postgres says, where nothing changed since Postgres was asked;
-- makes the map when there is none.
-- A hold that became an order within the last minute is believed: its order may be on the
-- way into Postgres. After that, units that Postgres gives to nobody are free.
-- ARGV 2 length of the map, 3 the version published before Postgres was asked, or '' when
--      there was no map, then for every unit that looked different four each:
--      unit, state by Postgres ('0' nobody's, '1' reserved, '2' sold), id of the order's hold,
--      session and how many units the order has ("session:n"), the latter two '' when nobody's
-- Returns {'ok', units changed} | {'stale'} (ask again)
local length, since = tonumber(ARGV[2]), ARGV[3]
local touched = {}
if since == '' then
	if not missing(length) then return {'stale'} end
	if redis.call('EXISTS', map) == 0 then
		redis.call('DEL', own, due, dirty, log)
		-- No version is ever given twice: the clock outruns the counter.
		redis.call('HSET', meta, 'version', string.format('%.0f', now))
	end
	redis.call('SETRANGE', map, length - 1, FREE)
	for _, key in ipairs({map, meta}) do
		redis.call('PEXPIRE', key, 30 * DAY)
	end
else
	if missing(length) then return {'stale'} end
	local behind = redis.call('HGET', meta, 'version') - since
	if behind < 0 or behind > redis.call('LLEN', log) then return {'stale'} end
	if behind > 0 then
		for _, changed in ipairs(redis.call('LRANGE', log, -behind, -1)) do
			for unit in string.gmatch(changed, '(%d+)=') do touched[unit] = true end
		end
	end
	for _, unit in ipairs(redis.call('SMEMBERS', dirty)) do touched[unit] = true end
end

local changed = 0
for i = 4, #ARGV, 4 do
	local unit, truth, id, session, n = ARGV[i], ARGV[i + 1], ARGV[i + 2], string.match(ARGV[i + 3], '^(.*):(%d+)$')
	if not touched[unit] then
		local is = state(unit)
		if truth == '0' then
			local owner = redis.call('HGET', own, unit)
			local h = owner and redis.call('HMGET', hold(owner), 'session', 'gone', 'order', 'at') or {}
			local live = is == HELD and h[1] and not h[2] and (h[3] == '' or now - (h[4] or 0) < 60000)
			if not live and is ~= BLOCKED and is ~= FREE then
				redis.call('HDEL', own, unit)
				if h[1] then redis.call('HDEL', purse(h[1]), owner) end
				set(unit, FREE)
				changed = changed + 1
			end
		else
			set(unit, truth == '2' and SOLD or HELD)
			redis.call('HSET', own, unit, id)
			redis.call('HSET', purse(session), id, n)
			redis.call('PEXPIRE', purse(session), DAY)
			changed = changed + 1
		end
	end
end
return {'ok', changed}
