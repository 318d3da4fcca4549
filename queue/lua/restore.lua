-- Brings back a room that Redis has lost.
-- ARGV: time, epoch, settings as JSON, then names and values of the state.
-- Returns 1, or 0 when the room is there: another process brought it back.
if load() then return 0 end
local now = wall()
for i = 4, #ARGV, 2 do set(ARGV[i], ARGV[i + 1]) end
call('SET', K.settings, ARGV[3])
set('epoch', ARGV[2])
set('time', max(now, num('time')))
set('quiet_until', num('time') + num('presence_ttl'))
set('presumed_until', num('time') + num('session_ttl'))
local frontier, base = num('frontier'), num('base')
if frontier > base then -- whoever was passed or called comes back at once, before those who wait
  call('ZADD', K.absent, 0, batch(frontier, base, frontier - base, num('clock') + num('call_ttl') + num('return_window')))
  set('missed', frontier - base)
end
save()
return 1
