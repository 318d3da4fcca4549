-- A gateway gives back the sessions that it gave, after Redis lost them.
-- ARGV: time, epoch, then rank, session id and expiry of each.
-- Returns how many were unknown.
if not load() then return 0 end
local now, n = turn(), 0
for i = 3, #ARGV, 3 do
  local rank, session, till = tonumber(ARGV[i]), ARGV[i + 1], tonumber(ARGV[i + 2])
  if till > now and call('ZADD', K.sessions, 'NX', int(till), session) == 1 then n = n + 1 end
  if s.epoch == ARGV[2] and rank >= num('base') and rank < num('frontier') then put_bit(K.claimed, rank, 1) end
end
save()
return n
