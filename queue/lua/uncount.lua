-- A gateway tells who no longer counts, of whom a store that was set back may think otherwise.
-- ARGV: time, epoch, base of the bitmaps, first byte, bits from there on.
-- Returns 1, or 0 when epoch or base are no longer so, or the room is not quiet.
if not load() or s.epoch ~= ARGV[2] or s.base ~= ARGV[3] or not drawn() then return 0 end
if not quiet(max(wall(), num('time'))) then return 0 end
call('UNLINK', K.tmp)
call('SETRANGE', K.tmp, tonumber(ARGV[4]), ARGV[5])
call('BITOP', 'OR', K.cleared, K.cleared, K.tmp)
uncount()
set('cleared', 1)
save()
return 1
