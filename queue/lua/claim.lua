-- Gives the session of a called place; claimed again, the same one.
-- ARGV: time, epoch, rank, session id, number, generation of the token.
-- Returns {'ok', expiry, now, given (1 the first time)}, or {'not-called'}, {'lapsed'},
--   {'moved'}, {'busy'} (who has claimed or moved is not known yet), {'none'}, {'epoch'}.
if not load() then return { 'none' } end
if s.epoch ~= ARGV[2] then return { 'epoch' } end
if s.claims_due == '1' then return { 'busy' } end
if call('HLEN', K.moved) > 0 and tonumber(ARGV[6]) < tonumber(call('HGET', K.moved, ARGV[5]) or '0') then return { 'moved' } end
local now, p = turn()
expire(now)
local rank, session = tonumber(ARGV[3]), ARGV[4]
local name, till = standing(now, rank, session)
if name == 'admitted' then
  save()
  return { 'ok', int(till), int(now), 0 }
end
if name == 'lapsed' or name == 'left' then
  save()
  return { 'lapsed' }
end
if name == 'called' then
  answered(rank)
elseif p == 'bypass' then
  -- Everyone is admitted: the place leaves the line, whatever it waited for.
  local key, b = K[name], find(K.absent, rank)
  if name == 'missed' then b = find(K.missed, rank) end
  if (name == 'missed' or name == 'absent') and b then
    shrink(key, b)
  elseif name == 'returning' then
    put_bit(K.returning, rank, 0)
    add('returning', -1)
  elseif name == 'waiting' then
    put_bit(K.left, rank, 1)
    add('out_of_line', 1)
    add('left_ahead', 1)
    silence(rank)
  end
else
  save()
  return { 'not-called' }
end
if rank >= num('base') then put_bit(K.claimed, rank, 1) end
till = now + num('session_ttl')
call('ZADD', K.sessions, int(till), session)
add('admitted_total', 1)
save()
return { 'ok', int(till), int(now), 1 }
