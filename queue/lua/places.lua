-- Tells where places stand. One that was passed while absent is back by being asked for.
-- ARGV: time, epoch, then rank and session id of each.
-- Returns {now, standing (or extended, for a call that was), until, standing, until, …}, or {'none'}, {'epoch'}.
if not load() then return { 'none' } end
if s.epoch ~= ARGV[2] then return { 'epoch' } end
local now = turn()
expire(now)
local out = { int(now) }
for i = 3, #ARGV, 2 do
  local rank = tonumber(ARGV[i])
  local name, till, b = standing(now, rank, ARGV[i + 1])
  if name == 'absent' and not quiet(now) then
    come_back(rank, 'absent', b)
    name, till = 'returning', 0
  end
  if name == 'called' and call('ZSCORE', K.extended, rank_text(rank)) then name = 'extended' end
  out[#out + 1] = name
  out[#out + 1] = int(till)
end
save()
return out
