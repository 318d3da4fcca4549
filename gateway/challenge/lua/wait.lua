-- Takes the next turn of those who wait behind one prefix.
-- KEYS[1]  when the last turn that was taken begins, microseconds of Redis TIME
-- ARGV[1]  microseconds from one turn to the next
-- ARGV[2]  how many turns may be taken in advance
-- Returns the milliseconds until the turn, or -1 if all are taken.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local turn = math.max(now, tonumber(redis.call('GET', KEYS[1]) or '0')) + ARGV[1]
if turn > now + ARGV[1] * ARGV[2] then return -1 end
redis.call('SET', KEYS[1], string.format('%.0f', turn), 'PX', math.ceil((turn - now) / 1000))
return math.ceil((turn - now) / 1000)
