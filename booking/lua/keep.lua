-- Finds a hold, and takes its units again where Redis forgot it and they are free;
-- with an order turns it over: from then on it ends later, and time does not free its units.
-- ARGV 2 length of the map, 3 id, 4 session, 5 units "1,2" and 6 end (ms), both as the
--      signed id says, 7 order or '', 8 how long an order keeps it (ms)
-- Returns {'ok'} | {'gone'} | {'ordered', order} | {'taken', units "1,2"} | {'missing'}
local length, id, session, units, order = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[7]
if missing(length) then return {'missing'} end
expire()
local h = redis.call('HMGET', hold(id), 'session', 'order', 'gone')
if h[3] then return {'gone'} end
if h[1] then
	if h[1] ~= session then return {'gone'} end
	if h[2] ~= '' and h[2] ~= order then return {'ordered', h[2]} end
else
	if tonumber(ARGV[6]) <= now then return {'gone'} end
	local list, taken = {}, {}
	for unit in string.gmatch(units, '%d+') do
		list[#list + 1] = unit
		if state(unit) ~= FREE then
			if redis.call('HGET', own, unit) == id then return {'ordered', ''} end
			taken[#taken + 1] = unit
		end
	end
	if #taken > 0 then return {'taken', table.concat(taken, ',')} end
	take(id, session, list, tonumber(ARGV[6]))
end
if order ~= '' then
	local ends = now + ARGV[8]
	redis.call('HSET', hold(id), 'order', order, 'at', now)
	redis.call('PEXPIREAT', hold(id), ends + 3600000)
	redis.call('ZADD', due, ends, id)
end
return {'ok'}
