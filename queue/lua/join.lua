-- Gives the next numbers.
-- ARGV: time, how many are wanted.
-- Returns {'ok', first, granted, now, frontier, epoch, commitment, revision of the settings
-- in force}, or {'none'}, {'not-open'}, {'closed'}, {'ceiling'} (no number is free, or none is known to be).
if not load() then return { 'none' } end
local now, p = turn()
if p == 'scheduled' then return { 'not-open' } end
if p == 'closed' or p == 'sold_out' then return { 'closed' } end
if s.reserved ~= s.lineage then -- numbers may have been given that this server has forgotten
  save()
  return { 'ceiling' }
end
if p == 'open' and s.method == 'draw' and not s.lobby_size and not quiet(now) then close_lobby() end
local first = num('next')
local n = min(tonumber(ARGV[2]), num('ceiling') - first)
if n <= 0 then
  save()
  return { 'ceiling' }
end
fill(K.counted, first, n)
fill(K.live, first, n)
fill(slot(), first, n)
set('next', first + n)
save()
return { 'ok', int(first), n, int(now), s.frontier, s.epoch, s.commitment, s.rev }
