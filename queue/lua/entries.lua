-- Merges recorded moves and invitations into those of a room that has lost some.
-- ARGV: time, epoch, then kind, field and value of each.
-- Returns 1, or 0 when the room lives another epoch.
if not load() or s.epoch ~= ARGV[2] then return 0 end
for i = 3, #ARGV, 3 do
  local kind, field, value = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local have = call('HGET', K[kind], field)
  if kind == 'moved' then
    local generation = tonumber(value)
    if generation > tonumber(have or '0') then
      call('HSET', K.moved, field, int(generation))
      call('RPUSH', K.moves, field .. ':' .. int(generation))
      add('moves', 1)
    end
  elseif not have or have < value then
    call('HSET', K.invited, field, value)
  end
end
save()
return 1
