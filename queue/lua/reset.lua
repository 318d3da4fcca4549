-- Begins the next epoch. Sessions stay, and with them the quiet time in which gateways tell
-- those that a loss made unknown.
-- ARGV: time, epoch that ends, epoch and commitment that begin, id, actor, actor's id, request id.
-- Returns {'ok'}, {'none'}, {'conflict'}.
if not load() then return { 'none' } end
if s.epoch ~= ARGV[2] then return { 'conflict' } end
local now = turn()
local before = cjson.encode({ epoch = s.epoch, next = num('next'), frontier = num('frontier') })
for i = 2, 16 do call('UNLINK', KEYS[i]) end
call('UNLINK', K.lobby_counted, K.lobby_live, K.lobby_left, K.cleared, K.extended, K.phones[1], K.phones[2], K.lobby_phones, K.moved, K.moves, K.invited, K.entries)
call('HDEL', K.state, 'lobby_size', 'draw_durable', 'drawn', 'draw_missing', 'gap_from', 'gap_to', 'sold_out', 'cleared', 'ranked',
  'draw_beacon', 'draw_source', 'sealed', 'sealed_durable', 'round', 'round_at', 'beacon_fault', 'claims_due')
for _, name in ipairs({ 'next', 'ceiling', 'frontier', 'base', 'open', 'returning', 'left_ahead', 'called_total', 'admitted_total',
  'missed', 'lapsed_total', 'left_total', 'out_of_line', 'credit', 'slot', 'slot_ends', 'moves', 'phone_slot', 'phone_ends', 'ptime' }) do set(name, 0) end
set('epoch', ARGV[3])
set('commitment', ARGV[4])
set('bucket', COST)
save()
changed(now, ARGV[5], ARGV[6], ARGV[7], 'room.reset', before, cjson.encode({ epoch = s.epoch }), ARGV[8])
return { 'ok' }
