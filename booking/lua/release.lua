-- Gives a hold back before its time. Its signed id stays refused until it would have ended.
-- ARGV 2 length of the map, 3 id, 4 session, 5 units "1,2" and 6 end (ms) as the signed id says
-- Returns {'ok'} | {'ordered', order} | {'missing'}
local length, id, session, units, ends = ARGV[2], ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6])
if missing(length) then return {'missing'} end
expire()
local order = redis.call('HGET', hold(id), 'order')
if order and order ~= '' then return {'ordered', order} end
if order then
	drop(id, session, units)
end
if ends > now then
	redis.call('HSET', hold(id), 'session', session, 'order', '', 'gone', 1)
	redis.call('PEXPIREAT', hold(id), ends)
else
	redis.call('DEL', hold(id))
end
return {'ok'}
