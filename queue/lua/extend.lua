-- Gives a called place call_ttl more to claim, once a call.
-- ARGV: time, epoch, rank, session id.
-- Returns 'ok', 'again' (this call was extended before), 'not-called', 'lapsed', 'none', 'epoch'.
if not load() then return 'none' end
if s.epoch ~= ARGV[2] then return 'epoch' end
local now = turn()
expire(now)
local rank = tonumber(ARGV[3])
local name = standing(now, rank, ARGV[4])
local answer = 'not-called'
if name == 'lapsed' or name == 'left' then
  answer = 'lapsed'
elseif name == 'called' and call('ZSCORE', K.extended, rank_text(rank)) then
  answer = 'again'
elseif name == 'called' then
  answer = 'ok'
  local till = call('ZSCORE', K.recalls, rank_text(rank))
  if till then
    call('ZREM', K.recalls, rank_text(rank))
  else
    -- The others of its batch go on as they were, on both sides of it.
    local b = find(K.calls, rank)
    till = b.till
    call('ZREM', K.calls, b.text)
    put_bit(K.called, rank, 0)
    for _, part in ipairs({ { b.first, rank }, { rank + 1, b.last } }) do
      local n = ones(K.called, part[1], part[2])
      if n > 0 then call('ZADD', K.calls, 0, batch(part[2], part[1], n, till)) end
    end
  end
  call('ZADD', K.extended, int(tonumber(till) + num('call_ttl')), rank_text(rank))
end
save()
return answer
