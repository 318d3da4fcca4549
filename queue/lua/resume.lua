-- Lets a room go on that a restart or a failover may have set back: from numbers that are
-- certainly free, with what is on record about the rest.
-- ARGV: time, epoch, lineage that the numbers are reserved for, lineage of before, next number,
--   ceiling, frontier on record, lobby size of the recorded draw ('' for none), its beacon
--   and that one's source, recorded size of a lobby that waits for its beacon ('' for none),
--   room time of the record, sessions and open calls then, then settings newer than the
--   store's as JSON ('' for none) and as names and values.
-- Returns 1, or 0 when another process was first, or the server has gone on to another lineage.
if not load() or s.epoch ~= ARGV[2] or lineage() ~= ARGV[3] or (s.reserved or '') ~= ARGV[4] then return 0 end
local now = turn()
if ARGV[14] ~= '' then
  call('SET', K.settings, ARGV[14])
  for i = 15, #ARGV, 2 do set(ARGV[i], ARGV[i + 1]) end
end
local next = tonumber(ARGV[5])
if num('next') < next then
  set('gap_from', min(s.gap_to and num('gap_from') or num('next'), num('next')))
  set('gap_to', next)
  set('next', next)
end
set('ceiling', tonumber(ARGV[6]))
if ARGV[8] ~= '' then
  if not s.lobby_size then fix_lobby(tonumber(ARGV[8])) end
  draw_recorded(ARGV[8], ARGV[9], ARGV[10])
elseif ARGV[11] ~= '' and not s.lobby_size then
  set('sealed', ARGV[11])
end
if num('known_till') < tonumber(ARGV[12]) then -- the record is of later than what the store knows
  catch_up(min(tonumber(ARGV[7]), num('next')))
  local unknown = tonumber(ARGV[13]) - call('ZCOUNT', K.sessions, '(' .. int(now), '+inf') - num('open')
  set('presumed', max(0, unknown))
  set('presumed_at', tonumber(ARGV[12]))
  set('presumed_until', now + num('session_ttl'))
  doubt(now, num('presence_ttl'))
end
set('reserved', ARGV[3])
set('claims_due', 1)
save()
return 1
