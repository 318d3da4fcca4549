-- Puts a recorded draw into force: the lobby's bits, permuted to ranks by the caller,
-- are merged into the bitmaps. Any gateway may do it; the second changes nothing.
-- ARGV: time, epoch, lobby size. The keys `tmp`, `tmp:2`, `tmp:3` and `tmp:4` hold counted,
--   live, left and phones by rank, each where there is any.
-- Returns 1 when ranks are in force, 0 when this draw is not the recorded one.
local brought = { K.tmp, K.tmp2, K.tmp3, K.tmp4 }
local function done(answer)
  call('UNLINK', unpack(brought))
  return answer
end
if not load() or s.epoch ~= ARGV[2] or s.lobby_size ~= ARGV[3] then return done(0) end
if s.drawn == '1' then return done(1) end
if s.draw_durable ~= '1' then return done(0) end
for i, keys in ipairs({ { K.counted }, { K.live, slot() }, { K.left }, { phone_slot() } }) do
  if call('EXISTS', brought[i]) == 1 then
    for _, key in ipairs(keys) do
      if call('COPY', brought[i], key) == 0 then -- there are bits of who joined since
        even({ key, brought[i] })
        call('BITOP', 'OR', key, key, brought[i])
      end
    end
  end
end
call('UNLINK', K.lobby_counted, K.lobby_live, K.lobby_left, K.lobby_phones)
set('drawn', 1)
turn() -- no pace builds up before the draw
save()
return done(1)
