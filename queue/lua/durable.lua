-- Says what is recorded for good: the ceiling below which numbers may be given, and the draw.
-- ARGV: time, epoch, ceiling ('' for none), lobby size of the draw ('' for none), lineage that
--   the ceiling is reserved for (left out: the one that numbers are given for), beacon of the
--   draw (left out: that of the settings) and its source ('' for a text).
-- Returns 1, or 0 when the room lives another epoch.
if not load() or s.epoch ~= ARGV[2] then return 0 end
if ARGV[3] ~= '' and (ARGV[5] or s.reserved) == s.reserved and tonumber(ARGV[3]) > num('ceiling') then
  set('ceiling', tonumber(ARGV[3]))
end
if ARGV[4] ~= '' then draw_recorded(ARGV[4], ARGV[6] or s.beacon, ARGV[7] or '') end
save()
return 1
