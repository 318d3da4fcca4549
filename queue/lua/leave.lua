-- A visitor leaves the queue. One who was admitted keeps the session.
-- ARGV: time, epoch, rank (in the lobby: number), session id, space as in mark.lua.
-- Returns 'ok', 'admitted', or 'none', 'epoch', 'busy' (the draw is being made: ask again).
if not load() then return 'none' end
if s.epoch ~= ARGV[2] then return 'epoch' end
local space = 'rank'
if s.method == 'draw' then
  if not s.lobby_size then space = 'number' elseif s.drawn ~= '1' then return 'busy' end
end
if space ~= ARGV[5] then return 'busy' end
local now = turn()
expire(now)
local rank = tonumber(ARGV[3])
local name, _, b = standing(now, rank, ARGV[4])
if name ~= 'admitted' and name ~= 'lapsed' and name ~= 'left' then
  add('left_total', 1)
  add('out_of_line', 1)
  put_bit(K.left, rank, 1)
  silence(rank)
end
if name == 'waiting' then
  add('left_ahead', 1)
elseif name == 'returning' then
  put_bit(K.returning, rank, 0)
  add('returning', -1)
elseif name == 'called' then
  answered(rank)
elseif b then
  shrink(K[name], b)
end
save()
return name == 'admitted' and name or 'ok'
