-- Makes a room, or changes its settings if they are still those that the caller read.
-- ARGV: time, revision that the caller read ('' to make the room), epoch and commitment
--   for a new room, id, actor, actor's id, before, after (both JSON), request id, then the
--   settings as JSON and as names and values.
-- Returns {'ok', epoch}, {'conflict'} (read again), {'drawn'} (what the draw fixed).
local exists = load()
local now
if not exists then
  if ARGV[2] ~= '' then return { 'conflict' } end
  now = wall()
  set('epoch', ARGV[3])
  set('commitment', ARGV[4])
  set('rev', 0)
  set('lineage', lineage())
  set('reserved', s.lineage)
  set('bucket', COST)
  for _, name in ipairs({ 'next', 'ceiling', 'frontier', 'base', 'clock', 'ptime', 'slot', 'slot_ends' }) do set(name, 0) end
  set('time', now)
else
  if s.rev ~= ARGV[2] then return { 'conflict' } end
  local p
  now, p = turn() -- what has passed, under the settings that were in force
  if s.method ~= 'draw' and (num('frontier') > 0 or num('next') > 0 and p ~= 'scheduled' and p ~= 'lobby') then set('ranked', 1) end
  local wish, fixed = {}, s.lobby_size or s.sealed
  for i = 12, #ARGV, 2 do wish[ARGV[i]] = ARGV[i + 1] end
  for _, name in ipairs({ 'method', 'lobby_at', 'opens_at' }) do
    if fixed and s[name] ~= wish[name] then return { 'drawn' } end
  end
  if s.ranked == '1' and s.method ~= wish.method then return { 'drawn' } end
  -- A beacon that does not come may be given up, for a text or for none.
  local open = not s.lobby_size and (not s.sealed or wish.beacon_url == '')
  if not open and (s.beacon ~= wish.beacon or (s.beacon_url or '') ~= wish.beacon_url) then return { 'drawn' } end
  if s.beacon_url ~= wish.beacon_url then
    for _, name in ipairs({ 'round', 'round_at', 'beacon_fault' }) do set(name, '') end
  end
end
call('SET', K.settings, ARGV[11])
for i = 12, #ARGV, 2 do set(ARGV[i], ARGV[i + 1]) end
add('rev', 1)
save()
local act = 'room.change'
if not exists then act = 'room.create' end
changed(now, ARGV[5], ARGV[6], ARGV[7], act, ARGV[8], ARGV[9], ARGV[10])
return { 'ok', s.epoch }
