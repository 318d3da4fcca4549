-- Moves the room on: schedule, expiries, presence slots, calls. Any gateway runs it
-- each tick; running it again in the same moment changes nothing.
-- ARGV: time, revision of the settings that the caller has, epoch, frontier and next
--   number that it remembers, how many an operator admits beyond the pace, and for
--   that: id, actor, actor's id, request id. Then the gateway's id (hexadecimal), what
--   share of the pace it says the origin can take, in thousandths ('' when it does not
--   know), and why.
-- Returns {'ok', now, phase, waiting, present, sessions, calls made, state…}, the state
--   as names and values, without settings when the caller has them; or {'none'}.
if not load() then return { 'none' } end
local now, p = turn()
local admit = tonumber(ARGV[6])
if admit > 0 and s.admit_id == ARGV[7] then admit = 0 end -- a client that lost our answer asks again

-- A store that is behind what a gateway remembers has lost writes. Where to go on counting
-- and whether there was a draw, the Recorder says.
local seen_frontier, seen_next = tonumber(ARGV[4]), tonumber(ARGV[5])
if ARGV[3] == s.epoch and (num('frontier') < seen_frontier or num('next') < seen_next) then
  if num('next') < seen_next or not drawn() then
    set('reserved', '')
    set('known_till', 0)
  end
  catch_up(seen_frontier)
  doubt(now, num('presence_ttl'))
end
local trusted = s.reserved == s.lineage
if s.cleared == '1' and not quiet(now) then
  call('UNLINK', K.cleared)
  set('cleared', 0)
end

expire(now)

if p == 'open' and s.method == 'draw' and not s.lobby_size and num('next') > 0 and trusted and not quiet(now) then close_lobby() end

-- The origin's share is the mean of what gateways said within SAID ms, each its newest word.
local SAID, GATEWAYS = 5000, 64
if ARGV[12] ~= '' or (s.shares or '') ~= '' then
  local words, sum, least, why = {}, 0, 1000, ''
  local function word(id, share, at, reason)
    words[#words + 1] = string.format('%s=%s@%s@%s', id, share, at, reason)
    sum = sum + share
    if tonumber(share) < least then least, why = tonumber(share), reason end
  end
  if ARGV[12] ~= '' then word(ARGV[11], ARGV[12], int(now), ARGV[13]) end
  for id, share, at, reason in string.gmatch(s.shares or '', '(%x+)=(%d+)@(%d+)@(%l*)') do
    if #words < GATEWAYS and tonumber(at) > now - SAID and (id ~= ARGV[11] or ARGV[12] == '') then word(id, share, at, reason) end
  end
  if least == 1000 then words, sum = {}, 0 end
  set('shares', table.concat(words, ';'))
  set('share', #words > 0 and floor(sum / #words) or 1000)
  set('share_reason', why)
end

-- Presence: when a slot ends, the oldest is emptied and becomes the one in force.
local pt, ends = num('ptime'), num('slot_ends')
if pt >= ends then
  local length = max(1, floor(num('presence_ttl') / 2))
  local steps = min(3, 1 + floor((pt - ends) / length))
  for _ = 1, steps do
    add('slot', 1)
    call('UNLINK', slot())
  end
  set('slot_ends', pt + length)
  local ends, length = num('phone_ends'), max(1, num('phone_ttl'))
  if pt >= ends then
    for _ = 1, min(2, 1 + floor((pt - ends) / length)) do
      add('phone_slot', 1)
      call('UNLINK', phone_slot())
    end
    set('phone_ends', pt + length)
  end
  local present = { K.slots[1], K.slots[2], K.slots[3] }
  for _, key in ipairs(K.phones) do
    if call('EXISTS', key) == 1 then present[#present + 1] = key end
  end
  even({ K.counted, K.live, unpack(present) })
  call('BITOP', 'OR', K.live, unpack(present))
  if not quiet(now) and num('next') > 0 then call('BITOP', 'AND', K.counted, K.counted, K.live) end
end

-- recall calls up to n of the returning; whoever is absent now has missed twice.
local function recall(n)
  local made, at = 0, num('base')
  for _ = 1, EXPIRIES do
    if made >= n or num('returning') == 0 then break end
    local i = call('BITPOS', K.returning, 1, floor(off(at) / 8), -1)
    if i < 0 then break end
    local rank = num('base') + i
    put_bit(K.returning, rank, 0)
    add('returning', -1)
    if bit_of(K.live, rank) == 1 then
      call('ZADD', K.recalls, int(num('clock') + num('call_ttl')), rank_text(rank))
      made = made + 1
    else
      add('lapsed_total', 1)
    end
    at = rank
  end
  return made
end

-- call_next calls up to n present places from the frontier on.
local function call_next(n)
  local from = num('frontier')
  local to, made = nth(K.live, from, num('next'), n)
  if made == 0 then return 0 end
  move(K.live, K.called, from, to, false)
  call('ZADD', K.calls, 0, batch(to, from, made, num('clock') + num('call_ttl')))
  local left, joined = ones(K.left, from, to), to - from
  local a, b = max(num('gap_from'), from), min(num('gap_to'), to)
  if b > a then joined = joined - (b - a) + max(ones(K.counted, a, b), ones(K.live, a, b)) end
  local passed = max(0, joined - left - made)
  if passed > 0 or unsure(from, to) then
    call('ZADD', K.absent, 0, batch(to, from, passed, num('clock') + num('return_window')))
    add('missed', passed)
  end
  add('left_ahead', -left)
  set('frontier', to)
  return made
end

local made = 0
local running = (p == 'open' or p == 'paused' and admit > 0) and drawn() and not quiet(now)
if running then
  local room = num('capacity') - live_sessions(now) - num('open')
  local paced = 0
  if p == 'open' and num('pace') > 0 then paced = max(0, min(floor(num('bucket') / COST), room)) end
  local want = paced + max(0, min(admit, room - paced))
  if want > 0 then
    -- Of four calls at most one goes to the returning, while others wait: credit is
    -- what earlier calls of others left for them.
    local credit = num('credit')
    local back = recall(min(want, floor((credit + want) / 4)))
    local others = call_next(want - back)
    credit = min(3, credit + others - 3 * back)
    if back + others < want then
      back = back + recall(want - back - others)
      credit = 0
    end
    set('credit', max(0, credit))
    made = back + others
    add('open', made)
    add('called_total', made)
    add('bucket', -COST * min(made, paced))
  end
end
if admit > 0 then
  set('admit_id', ARGV[7])
  set('admit_made', made)
  changed(now, ARGV[7], ARGV[8], ARGV[9], 'room.admit', '', cjson.encode({ count = admit, called = made }), ARGV[10])
end

-- Bits of ranks that are all settled are dropped, seldom enough to cost little, and once
-- what stays is short enough to be copied within this run.
local STAYS = 65536 -- bytes of each bitmap
local safe = num('frontier')
for _, key in ipairs({ K.calls, K.absent, K.missed }) do
  local b = head(key)
  if b then safe = min(safe, b.first) end
end
if num('returning') > 0 then
  local i = call('BITPOS', K.returning, 1)
  if i >= 0 then safe = min(safe, num('base') + i) end
end
local EXTENDED = 4000 -- with more of them the bits stay until there are fewer
local shift = floor((safe - num('base')) / 64) * 8
local stays = (num('next') - num('base')) / 8 - shift
if quiet(now) or shift < stays or stays > STAYS then shift = 0 end
if shift >= 8192 and call('ZCARD', K.extended) > EXTENDED then shift = 0 end
if shift >= 8192 then
  for _, rank in ipairs(call('ZRANGE', K.extended, 0, -1)) do safe = min(safe, tonumber(rank)) end
  shift = floor((safe - num('base')) / 64) * 8
end
if shift >= 8192 then
  for _, i in ipairs({ 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 29, 30 }) do
    local rest = call('GETRANGE', KEYS[i], shift, -1)
    if #rest > 0 then call('SET', KEYS[i], rest) else call('UNLINK', KEYS[i]) end
  end
  set('base', num('base') + shift * 8)
end

local sessions, wait = live_sessions(now), waiting()
local present
if s.lobby_size and not drawn() then
  present = call('BITCOUNT', K.lobby_live)
else
  present = ones(K.live, num('frontier'), num('next'))
end

-- History: one sample a second while anything moves, one a minute for a week.
local sample = { 'waiting', int(wait), 'present', int(present), 'sessions', int(sessions), 'called', int(num('open')),
  'called_total', int(num('called_total')), 'admitted_total', int(num('admitted_total')), 'pace', s.pace }
local text, second = table.concat(sample, ','), floor(now / 1000)
if second > num('sampled') and text ~= s.sample then
  call('XADD', K.seconds, 'MAXLEN', '~', 3600, '*', 'at', int(now), unpack(sample))
  local minute = floor(second / 60)
  if minute > num('minuted') then
    call('XADD', K.minutes, 'MAXLEN', '~', 10080, '*', 'at', int(now), unpack(sample))
    set('minuted', minute)
  end
  set('sampled', second)
  set('sample', text)
end
save()

if ARGV[7] ~= '' and s.admit_id == ARGV[7] then made = num('admit_made') end
local out = { 'ok', int(now), p, int(wait), int(present), int(sessions), int(made) }
for name, v in pairs(s) do
  if name ~= 'sample' then
    out[#out + 1] = name
    out[#out + 1] = v
  end
end
if s.rev ~= ARGV[2] then
  out[#out + 1] = 'settings'
  out[#out + 1] = call('GET', K.settings)
end
return out
