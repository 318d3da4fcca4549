-- What all scripts of a room share; it is put in front of each of them.
--
-- KEYS are the room's, in the order of keys.go. ARGV[1] is always the room time in
-- milliseconds that a test sets, or '0' for Redis TIME.
--
-- Times are milliseconds. `time` is room time: Redis TIME, never going back. `clock`
-- is the time on which calls and returns expire: it stands still in a pause, in the
-- quiet time after a restore, and while nobody ticks. `ptime` is presence's: it stands
-- still while nobody ticks. Calls are counted in `bucket` as 60,000ths.

local K = {
  state = KEYS[1], counted = KEYS[2], live = KEYS[3], slots = { KEYS[4], KEYS[5], KEYS[6] },
  called = KEYS[7], claimed = KEYS[8], expired = KEYS[9], returning = KEYS[10], once = KEYS[11], left = KEYS[12],
  calls = KEYS[13], absent = KEYS[14], missed = KEYS[15], recalls = KEYS[16], sessions = KEYS[17], tmp = KEYS[18],
  changes = KEYS[19], seconds = KEYS[20], minutes = KEYS[21],
  lobby_counted = KEYS[22], lobby_live = KEYS[23], lobby_left = KEYS[24], settings = KEYS[25], tmp2 = KEYS[26], cleared = KEYS[27],
  extended = KEYS[28], phones = { KEYS[29], KEYS[30] }, lobby_phones = KEYS[31], tmp3 = KEYS[32], tmp4 = KEYS[33],
  moved = KEYS[34], moves = KEYS[35], invited = KEYS[36], entries = KEYS[37],
}
local call = redis.call
local floor, min, max = math.floor, math.min, math.max

local UNTICKED = 5000 -- the longest step of clock and ptime: longer ones mean that nobody ticked
local COST = 60000 -- one call, in units of the bucket
local SETTLE = 6000 -- the quiet time after a restart or failover that seems to have lost nothing: two round trips that time out
local BATCHES = 32 -- batches, and
local BLOCKERS = 8 -- single batches whose time is not over that are looked behind, and
local EXPIRIES = 500 -- single entries that one run expires at most

local s, dirty = {}, {}

local function int(v) return string.format('%.0f', v) end

-- load reads the room's state; false when there is no such room.
local function load()
  local f = call('HGETALL', K.state)
  for i = 1, #f, 2 do s[f[i]] = f[i + 1] end
  return s.epoch ~= nil
end

local function num(name) return tonumber(s[name] or '0') or 0 end

local function set(name, v)
  if type(v) == 'number' then v = int(v) end
  if s[name] ~= v then
    s[name] = v
    dirty[name] = true
  end
end

local function add(name, n) set(name, num(name) + n) end

local function save()
  local args = {}
  for name in pairs(dirty) do
    args[#args + 1] = name
    args[#args + 1] = s[name]
  end
  if #args > 0 then call('HSET', K.state, unpack(args)) end
  dirty = {}
end

-- wall is Redis TIME, or the test's.
local function wall()
  if ARGV[1] ~= '0' then return tonumber(ARGV[1]) end
  local t = call('TIME')
  return t[1] * 1000 + floor(t[2] / 1000)
end

-- phase follows the operator's word, then the schedule.
local function phase(now)
  local mode, opens, lobby, closes = s.mode, num('opens_at'), num('lobby_at'), num('closes_at')
  if mode == 'closed' then return 'closed' end
  if mode == 'bypass' then return 'bypass' end
  if mode == 'auto' and closes > 0 and now >= closes then return 'closed' end
  if s.sold_out == '1' then return 'sold_out' end
  if mode == 'paused' or s.draw_missing == '1' then return 'paused' end
  if mode == 'open' then return 'open' end
  if opens > 0 and now >= opens then return 'open' end
  if opens == 0 and lobby == 0 then return 'open' end
  if lobby > 0 and now >= lobby then return 'lobby' end
  return 'scheduled'
end

local function quiet(now) return now < num('quiet_until') end

-- doubt keeps the room quiet for at least ms: writes were lost, or may have been.
local function doubt(now, ms) set('quiet_until', max(num('quiet_until'), now + ms)) end

-- lineage names the history of writes that this server goes on from. A restart and a
-- failover begin another one; either may have lost the newest writes.
local function lineage() return string.match(call('INFO', 'replication'), 'master_replid:(%x+)') or '' end

-- drawn tells whether ranks are in force.
local function drawn() return s.method ~= 'draw' or s.drawn == '1' end

-- turn moves the room's clocks to now and refills the bucket. It returns room time.
local function turn()
  local now = max(wall(), num('time'))
  local dt = min(now - num('time'), UNTICKED)
  local p, here = phase(now), lineage()
  if s.lineage ~= here then
    if s.reserved == s.lineage then set('known_till', num('time')) end
    set('lineage', here)
    doubt(now, min(SETTLE, num('presence_ttl')))
  end
  add('ptime', dt)
  if p ~= 'paused' and not quiet(now) then
    add('clock', dt)
    if p == 'open' and drawn() then
      local pace = num('pace') * (tonumber(s.share) or 1000) / 1000 -- what the origin can take of it
      set('bucket', floor(min(num('bucket') + dt * pace, max(COST, pace * 1000))))
    end
  end
  set('time', now)
  return now, p
end

-- Bits. All bitmaps begin at rank `base`.

local function off(rank) return rank - num('base') end

local function bit_of(key, rank) return call('GETBIT', key, off(rank)) end

local function put_bit(key, rank, v) call('SETBIT', key, off(rank), v) end

-- even makes bitmaps as long as the longest of them: BITOP takes those of one length many
-- times faster, and one that is missing is the slowest.
local function even(keys)
  local size, lengths = 0, {}
  for i, key in ipairs(keys) do
    lengths[i] = call('STRLEN', key)
    size = max(size, lengths[i])
  end
  for i, key in ipairs(keys) do
    if lengths[i] < size then call('SETRANGE', key, size - 1, '\0') end
  end
end

-- ones counts the bits of ranks [a, b).
local function ones(key, a, b)
  if b <= a then return 0 end
  return call('BITCOUNT', key, off(a), off(b) - 1, 'BIT')
end

-- nth finds where the nth one at or after rank a ends: the rank after it. With fewer
-- ones before b it returns the rank after the last, and how many there were.
local function nth(key, a, b, n)
  local lo, have, span, last = a, 0, max(64, 2 * n), a
  while lo < b do
    local hi = min(b, lo + span)
    local c = ones(key, lo, hi)
    if have + c >= n then
      while hi - lo > 1 do
        local mid = floor((lo + hi) / 2)
        local c2 = ones(key, lo, mid)
        if have + c2 >= n then hi = mid else have, lo = have + c2, mid end
      end
      return hi, n
    end
    have, lo, span = have + c, hi, span * 2
  end
  if have == 0 then return a, 0 end
  return (nth(key, a, b, have)), have
end

-- masks returns the byte range of ranks [a, b), and which bits of its first and last
-- byte are inside.
local function masks(a, b)
  local i, j = floor(off(a) / 8), floor((off(b) - 1) / 8)
  local first, last = bit.rshift(255, off(a) % 8), bit.band(255, bit.lshift(255, 7 - (off(b) - 1) % 8))
  if i == j then
    first = bit.band(first, last)
    last = first
  end
  return i, j, first, last
end

local function byte_at(key, i) return string.byte(call('GETRANGE', key, i, i)) or 0 end

-- move ORs the bits of ranks [a, b) of src into dst, whose inner bytes there are zero;
-- take also clears them in src.
local function move(src, dst, a, b, take)
  local i, j, first, last = masks(a, b)
  local w = call('GETRANGE', src, i, j)
  w = w .. string.rep('\0', j - i + 1 - #w)
  local w1, w2 = string.byte(w, 1), string.byte(w, -1)
  local d1, d2 = bit.bor(byte_at(dst, i), bit.band(w1, first)), bit.bor(byte_at(dst, j), bit.band(w2, last))
  local k1, k2 = bit.band(w1, 255 - first), bit.band(w2, 255 - last)
  if i == j then
    call('SETRANGE', dst, i, string.char(d1))
    if take then call('SETRANGE', src, i, string.char(k1)) end
    return
  end
  call('SETRANGE', dst, i, string.char(d1) .. string.sub(w, 2, -2) .. string.char(d2))
  if take then
    call('SETRANGE', src, i, string.char(k1) .. string.rep('\0', j - i - 1) .. string.char(k2))
  end
end

-- fill sets the n bits from rank a on.
local function fill(key, a, n)
  local at, args = off(a), {}
  local head = min(n, (8 - at % 8) % 8)
  local bytes, tail = floor((n - head) / 8), (n - head) % 8
  if bytes > 0 then call('SETRANGE', key, (at + head) / 8, string.rep('\255', bytes)) end
  for _, part in ipairs({ { at, head }, { at + head + 8 * bytes, tail } }) do
    if part[2] > 0 then
      for _, v in ipairs({ 'SET', 'u' .. part[2], int(part[1]), 2 ^ part[2] - 1 }) do args[#args + 1] = v end
    end
  end
  if #args > 0 then call('BITFIELD', key, unpack(args)) end
end

-- Batches are runs of ranks [first, last) in a sorted set ordered by their text:
-- last:first:n:till, ranks in 16 digits. n and till mean what the set is for.

local function batch(last, first, n, till)
  return string.format('%016.0f:%016.0f:%.0f:%.0f', last, first, n, till)
end

local function parse(m)
  if not m then return nil end
  local last, first, n, till = string.match(m, '^(%d+):(%d+):(%d+):(%d+)$')
  return { text = m, last = tonumber(last), first = tonumber(first), n = tonumber(n), till = tonumber(till) }
end

local function head(key) return parse(call('ZRANGE', key, 0, 0)[1]) end

-- find returns the batch that holds rank.
local function find(key, rank)
  local b = parse(call('ZRANGEBYLEX', key, string.format('[%016.0f', rank + 1), '+', 'LIMIT', 0, 1)[1])
  if b and b.first <= rank then return b end
  return nil
end

-- unsure tells that a loss made it unknown which of ranks [a, b) were given.
local function unsure(a, b) return max(num('gap_from'), a) < min(num('gap_to'), b) end

-- shrink takes one who missed out of a batch. A batch that may hold more than are known stays.
local function shrink(key, b)
  call('ZREM', key, b.text)
  if b.n > 1 or key == K.absent and unsure(b.first, b.last) then
    call('ZADD', key, 0, batch(b.last, b.first, max(0, b.n - 1), b.till))
  end
  if b.n > 0 then add('missed', -1) end
end

-- expire ends what is over on the room's clock, so much at a time that it stays short.
local function expire(now)
  local clock = num('clock')
  for _ = 1, BATCHES do
    local b = head(K.calls)
    if not b or b.till > clock then break end
    call('ZREM', K.calls, b.text)
    local n = ones(K.called, b.first, b.last)
    if n > 0 then
      move(K.called, K.expired, b.first, b.last, true)
      call('ZADD', K.missed, 0, batch(b.last, b.first, n, b.till + num('return_window')))
      add('open', -n)
      add('missed', n)
    end
  end
  local longer = call('ZRANGEBYSCORE', K.extended, '-inf', int(clock), 'WITHSCORES', 'LIMIT', 0, EXPIRIES)
  for i = 1, #longer, 2 do
    local rank, till = tonumber(longer[i]), tonumber(longer[i + 1])
    call('ZREM', K.extended, longer[i])
    add('open', -1)
    if rank < num('base') or bit_of(K.once, rank) == 1 then
      add('lapsed_total', 1)
    else
      put_bit(K.expired, rank, 1)
      call('ZADD', K.missed, 0, batch(rank + 1, rank, 1, till + num('return_window')))
      add('missed', 1)
    end
  end
  for _, key in ipairs({ K.absent, K.missed }) do
    local at = 0
    for _ = 1, BATCHES do
      local b = parse(call('ZRANGE', key, at, at)[1])
      if not b or b.till > clock and (b.last - b.first > 1 or at == BLOCKERS) then break end
      if b.till > clock then
        at = at + 1 -- a call that was extended may last longer than those of higher ranks
      else
        call('ZREM', key, b.text)
        add('missed', -b.n)
        add('lapsed_total', b.n)
      end
    end
  end
  local late = call('ZRANGEBYSCORE', K.recalls, '-inf', int(clock), 'LIMIT', 0, EXPIRIES)
  if #late > 0 then
    call('ZREM', K.recalls, unpack(late))
    add('open', -#late)
    add('lapsed_total', #late)
  end
  local over = min(EXPIRIES, call('ZCOUNT', K.sessions, '-inf', int(now)))
  if over > 0 then call('ZPOPMIN', K.sessions, over) end
end

-- live_sessions counts the sessions in the shop. After a loss, those that nobody
-- remembers (yet) are presumed to last for their time.
local function live_sessions(now)
  local n = call('ZCOUNT', K.sessions, '(' .. int(now), '+inf')
  if now < num('presumed_until') then n = n + num('presumed') end
  return n
end

-- waiting counts those who joined and were neither called nor left nor lapsed.
local function waiting()
  local frontier, next = num('frontier'), num('next')
  local n = next - frontier - num('left_ahead')
  local a, b = max(num('gap_from'), frontier), num('gap_to')
  if b > a then -- numbers of which a loss made it unknown whether they were given
    local key = K.counted
    if s.lobby_size and not drawn() then key = K.lobby_counted end
    n = n - (b - a) + ones(key, a, b)
  end
  return max(0, n + num('returning'))
end

-- slot is the bitmap of the presence slot in force.
local function slot() return K.slots[num('slot') % 3 + 1] end

-- phone_slot is the bitmap of phones in force; the other one still counts.
local function phone_slot() return K.phones[num('phone_slot') % 2 + 1] end

-- silence makes a rank neither counted nor present.
local function silence(rank)
  put_bit(K.counted, rank, 0)
  for _, key in ipairs({ K.live, K.slots[1], K.slots[2], K.slots[3], K.phones[1], K.phones[2] }) do
    if call('EXISTS', key) == 1 then put_bit(key, rank, 0) end
  end
end

local function rank_text(rank) return string.format('%016.0f', rank) end

-- standing tells where a place of this epoch stands, and until when in room time:
-- admitted, called, waiting, returning, missed, absent (missed, and back by being
-- present), left, lapsed. For missed and absent it returns their batch, too.
local function standing(now, rank, session)
  local clock = num('clock')
  local till = call('ZSCORE', K.sessions, session)
  if till then
    till = tonumber(till)
    if till > now then return 'admitted', till end
    return 'lapsed', 0
  end
  till = call('ZSCORE', K.extended, rank_text(rank)) or call('ZSCORE', K.recalls, rank_text(rank))
  if till then
    if tonumber(till) > clock then return 'called', now + till - clock end
    if rank < num('base') or bit_of(K.once, rank) == 1 then return 'lapsed', 0 end
    return 'missed', now -- expires with one of the next runs
  end
  if rank < num('base') or bit_of(K.claimed, rank) == 1 then return 'lapsed', 0 end
  if bit_of(K.left, rank) == 1 then return 'left', 0 end
  if rank >= num('frontier') then return 'waiting', 0 end
  if bit_of(K.returning, rank) == 1 then return 'returning', 0 end
  if bit_of(K.called, rank) == 1 then
    local b = find(K.calls, rank)
    if b and b.till > clock then return 'called', now + b.till - clock end
    return 'missed', now -- expires with one of the next runs
  end
  if bit_of(K.once, rank) == 1 then return 'lapsed', 0 end
  local key, name = K.absent, 'absent'
  if bit_of(K.expired, rank) == 1 then key, name = K.missed, 'missed' end
  local b = find(key, rank)
  if b and b.till > clock then return name, now + b.till - clock, b end
  return 'lapsed', 0
end

-- answered takes back an open call that is claimed or left.
local function answered(rank)
  add('open', -1)
  if call('ZREM', K.recalls, rank_text(rank)) + call('ZREM', K.extended, rank_text(rank)) == 0 then put_bit(K.called, rank, 0) end
end

-- come_back puts a missed place among the returning.
local function come_back(rank, name, b)
  shrink(K[name], b)
  add('returning', 1)
  put_bit(K.returning, rank, 1)
  put_bit(K.once, rank, 1)
  put_bit(K.live, rank, 1)
  put_bit(slot(), rank, 1)
end

-- changed appends an operator's change for the Recorder.
local function changed(now, id, actor, actor_id, act, before, after, request_id)
  call('XADD', K.changes, 'MAXLEN', '~', 10000, '*', 'id', id, 'at', int(now), 'actor', actor, 'actor_id', actor_id,
    'act', act, 'before', before, 'after', after, 'request_id', request_id)
end

-- catch_up moves the frontier to where it has been before a loss. Whoever was called in
-- what is lost comes back at once, before those who wait.
local function catch_up(to)
  local from = num('frontier')
  if to <= from then return end
  call('ZADD', K.absent, 0, batch(to, from, to - from, num('clock') + num('call_ttl') + num('return_window')))
  add('missed', to - from)
  if drawn() then add('left_ahead', -ones(K.left, from, to)) end
  set('frontier', to)
end

-- uncount keeps those from counting again of whom a gateway knows that they do not.
local function uncount()
  even({ K.counted, K.cleared })
  call('BITOP', 'AND', K.tmp, K.counted, K.cleared)
  call('BITOP', 'XOR', K.counted, K.counted, K.tmp)
  call('UNLINK', K.tmp)
end

-- fix_lobby ends the lobby of a draw: its size is all numbers given so far, or the one on record.
local function fix_lobby(size)
  set('lobby_size', size or num('next'))
  for from, to in pairs({ counted = 'lobby_counted', live = 'lobby_live', left = 'lobby_left' }) do
    if call('EXISTS', K[from]) == 1 then call('RENAME', K[from], K[to]) end
  end
  if call('EXISTS', unpack(K.phones)) > 0 then
    even(K.phones)
    call('BITOP', 'OR', K.lobby_phones, unpack(K.phones))
    call('UNLINK', unpack(K.phones))
  end
  call('UNLINK', K.claimed, unpack(K.slots)) -- who took a session in bypass is among the left, too
end

-- close_lobby ends the lobby of a draw. With a beacon to come its size alone is fixed; the
-- bits go on by number until the beacon is on record.
local function close_lobby()
  if (s.beacon_url or '') == '' or num('next') == 0 then
    fix_lobby(s.sealed and num('sealed'))
  elseif not s.sealed then
    set('sealed', num('next'))
  end
end

-- draw_recorded puts what is on record of the draw into the state.
local function draw_recorded(size, beacon, source)
  if not s.lobby_size and s.sealed == size then fix_lobby(tonumber(size)) end
  if s.lobby_size ~= size then return end
  set('draw_durable', 1)
  set('draw_beacon', beacon)
  set('draw_source', source)
  set('beacon_fault', '')
end
