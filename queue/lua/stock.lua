-- Says whether anything is left of what the room stands before.
-- ARGV: time, '1' when it is sold out.
-- Returns 1 when that is news.
if not load() or (s.sold_out or '0') == ARGV[2] then return 0 end
turn()
set('sold_out', ARGV[2])
save()
return 1
