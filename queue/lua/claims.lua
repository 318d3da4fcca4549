-- Merges recorded claims into those of a room that has lost some.
-- ARGV: time, epoch, base of the bitmaps, first byte ('' when all have been merged), bits from there on.
-- Returns 1, or 0 when epoch or base are no longer so.
if not load() or s.epoch ~= ARGV[2] or s.base ~= ARGV[3] then return 0 end
if ARGV[4] == '' then
  set('claims_due', 0)
  -- Of the ranks that a loss made all of to be missed, those that were admitted are not.
  for _, text in ipairs(call('ZRANGE', K.absent, 0, BATCHES)) do
    local b = parse(text)
    local may = b.last - b.first - ones(K.claimed, b.first, b.last)
    if b.n > may then
      call('ZREM', K.absent, b.text)
      if may > 0 then call('ZADD', K.absent, 0, batch(b.last, b.first, may, b.till)) end
      add('missed', may - b.n)
    end
  end
else
  call('UNLINK', K.tmp)
  call('SETRANGE', K.tmp, tonumber(ARGV[4]), ARGV[5])
  call('BITOP', 'OR', K.claimed, K.claimed, K.tmp)
  call('UNLINK', K.tmp)
end
save()
return 1
