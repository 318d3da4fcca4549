-- Says how the beacon of a coming draw stands.
-- ARGV: time, epoch, address of the beacon, recorded size of the lobby ('' before the opening),
--   round and its time ('' for none), why it cannot be had ('' when it can).
-- Returns 1, or 0 when it is asked for no longer.
if not load() or s.epoch ~= ARGV[2] or s.beacon_url ~= ARGV[3] or s.lobby_size then return 0 end
if (s.sealed or '') ~= ARGV[4] then return 0 end
if s.sealed then set('sealed_durable', 1) end
set('round', ARGV[5])
set('round_at', ARGV[6])
set('beacon_fault', ARGV[7])
save()
return 1
