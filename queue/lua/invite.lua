-- Gives the one place of an invited identity, unless another device has one meanwhile.
-- ARGV: time, epoch, field of the identity, what the caller found there ('' for nothing), its place.
-- Returns what is there then, or 'busy' (who has a place is not known yet), 'none', 'epoch'.
if not load() then return 'none' end
if s.epoch ~= ARGV[2] then return 'epoch' end
if s.claims_due == '1' then return 'busy' end
local found = call('HGET', K.invited, ARGV[3]) or ''
if found ~= ARGV[4] then return found end
call('HSET', K.invited, ARGV[3], ARGV[5])
call('XADD', K.entries, '*', 'epoch', s.epoch, 'kind', 'invited', 'field', ARGV[3], 'value', ARGV[5])
return ARGV[5]
