-- Brings the map in line with what Postgres just decided about an order. Repeatable.
-- ARGV 2 length of the map, 3 id of the order's hold, 4 session, 5 units "1,2",
--      6 '2' they are sold, '0' the order gave them back
-- Returns {'ok'} | {'missing'} (the rebuild will read Postgres)
local length, id, session, units = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
if missing(length) then return {'missing'} end
if ARGV[6] == '2' then
	for unit in string.gmatch(units, '%d+') do
		set(unit, SOLD)
		redis.call('HSET', own, unit, id)
	end
	redis.call('ZREM', due, id)
else
	drop(id, session, units)
end
local left = redis.call('PTTL', hold(id))
if left > 0 then
	redis.call('ZREM', due, id)
	redis.call('HSET', hold(id), 'gone', 1) -- until its time, so that its signed id is not honoured again
end
return {'ok'}
