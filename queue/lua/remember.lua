-- A gateway gives back the sessions that it gave, after Redis lost them.
-- ARGV: time, epoch, then rank, session id and expiry of each.
-- Returns how many were unknown.
if not load() then return 0 end
local now, n, presumed = turn(), 0, num('presumed')
for i = 3, #ARGV, 3 do
  local rank, session, till = tonumber(ARGV[i]), ARGV[i + 1], tonumber(ARGV[i + 2])
  if till > now and call('ZADD', K.sessions, 'NX', int(till), session) == 1 then
    n = n + 1
    if till - num('session_ttl') <= num('presumed_at') then presumed = presumed - 1 end -- it was among those
  end
  if s.epoch == ARGV[2] and rank >= num('base') and rank < num('frontier') then put_bit(K.claimed, rank, 1) end
end
if n > 0 then
  set('presumed', max(0, presumed))
  doubt(now, num('presence_ttl'))
end
save()
return n
