-- Brings back a room that Redis has lost, or has fallen back into an epoch before.
-- ARGV: time, epoch, settings as JSON, lineage that the numbers are reserved for, then names and values of the state.
-- Returns 1, or 0 when the room is there (another process brought it back) or the server
--   has gone on to another lineage since.
if lineage() ~= ARGV[4] then return 0 end
if load() then
  if s.epoch >= ARGV[2] then return 0 end -- UUIDv7: a later epoch is greater
  for i = 1, 16 do call('UNLINK', KEYS[i]) end
  call('UNLINK', K.lobby_counted, K.lobby_live, K.lobby_left, K.cleared, K.extended, K.phones[1], K.phones[2], K.lobby_phones, K.moved, K.moves, K.invited, K.entries)
  s = {}
end
local now = wall()
for i = 5, #ARGV, 2 do set(ARGV[i], ARGV[i + 1]) end
call('SET', K.settings, ARGV[3])
set('epoch', ARGV[2])
set('lineage', ARGV[4])
set('reserved', ARGV[4])
set('claims_due', 1)
set('time', max(now, num('time')))
set('quiet_until', num('time') + num('presence_ttl'))
set('presumed_until', num('time') + num('session_ttl'))
local frontier = num('frontier')
set('frontier', num('base'))
catch_up(frontier)
save()
return 1
