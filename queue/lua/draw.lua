-- Puts a recorded draw into force: the lobby's bits, permuted to ranks by the caller,
-- are merged into the bitmaps. Any gateway may do it; the second changes nothing.
-- ARGV: time, epoch, lobby size, then counted, live, left and phones by rank.
-- Returns 1 when ranks are in force, 0 when this draw is not the recorded one.
if not load() or s.epoch ~= ARGV[2] or s.lobby_size ~= ARGV[3] then return 0 end
if s.drawn == '1' then return 1 end
if s.draw_durable ~= '1' then return 0 end
for i, keys in ipairs({ { K.counted }, { K.live, slot() }, { K.left }, { phone_slot() } }) do
  if #ARGV[3 + i] > 0 then
    call('SET', K.tmp, ARGV[3 + i])
    for _, key in ipairs(keys) do call('BITOP', 'OR', key, key, K.tmp) end
  end
end
call('UNLINK', K.tmp, K.lobby_counted, K.lobby_live, K.lobby_left, K.lobby_phones)
set('drawn', 1)
turn() -- no pace builds up before the draw
save()
return 1
