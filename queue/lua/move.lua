-- Moves a place to another device: tokens of an earlier generation are refused from now on.
-- ARGV: time, epoch, number, generation that moves, session id, most places that may move.
-- Returns 'ok', 'moved' (an earlier code of this place was used), 'admitted', 'full', 'busy' (what
--   has moved is not known yet), 'none', 'epoch'.
if not load() then return 'none' end
if s.epoch ~= ARGV[2] then return 'epoch' end
turn()
save()
if s.claims_due == '1' then return 'busy' end
local now = num('time')
local generation = tonumber(ARGV[4])
if generation < tonumber(call('HGET', K.moved, ARGV[3]) or '0') then return 'moved' end
local till = call('ZSCORE', K.sessions, ARGV[5])
if till and tonumber(till) > now then return 'admitted' end
if call('LLEN', K.moves) >= tonumber(ARGV[6]) then return 'full' end
call('HSET', K.moved, ARGV[3], generation + 1)
call('RPUSH', K.moves, ARGV[3] .. ':' .. int(generation + 1))
add('moves', 1)
call('XADD', K.entries, '*', 'epoch', s.epoch, 'kind', 'moved', 'field', ARGV[3], 'value', string.format('%010.0f', generation + 1))
save()
return 'ok'
