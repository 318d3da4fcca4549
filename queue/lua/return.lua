-- A visitor who missed the call comes back, once.
-- ARGV: time, epoch, rank, session id.
-- Returns the standing afterwards, or 'none', 'epoch'.
if not load() then return 'none' end
if s.epoch ~= ARGV[2] then return 'epoch' end
local now = turn()
expire(now)
local rank = tonumber(ARGV[3])
local name, _, b = standing(now, rank, ARGV[4])
if b then
  come_back(rank, name, b)
  name = 'returning'
end
save()
return name
