-- Merges recorded claims into those of a room that has lost some.
-- ARGV: time, epoch, base of the bitmaps, first byte ('' when all have been merged), bits from there on.
-- Returns 1, or 0 when epoch or base are no longer so.
if not load() or s.epoch ~= ARGV[2] or s.base ~= ARGV[3] then return 0 end
if ARGV[4] == '' then
  set('claims_due', 0)
else
  call('UNLINK', K.tmp)
  call('SETRANGE', K.tmp, tonumber(ARGV[4]), ARGV[5])
  call('BITOP', 'OR', K.claimed, K.claimed, K.tmp)
  call('UNLINK', K.tmp)
end
save()
return 1
