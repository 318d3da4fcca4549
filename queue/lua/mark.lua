-- Marks places present.
-- ARGV: time, epoch, space ('number' before the lobby's end is known, then 'rank'),
--   base of the bitmaps, then either 'few', how many phones come first, and the ranks, or 'bulk'
--   and a bitmap of who counts (used in the quiet time after a restore; may be ''). Then `tmp`
--   holds a bitmap of who is present, and `tmp:3` one of who of those are phones, where there
--   are any: ten million bits would cost milliseconds as an argument.
-- Returns 1, or 0 when epoch, space or base are no longer so: the caller keeps its marks.
local function done(answer)
  call('UNLINK', K.tmp, K.tmp3)
  return answer
end
if not load() or s.epoch ~= ARGV[2] or s.base ~= ARGV[4] then return done(0) end
local space = 'rank'
if s.method == 'draw' and not s.lobby_size then space = 'number' end
if space ~= ARGV[3] then return done(0) end
local now = max(wall(), num('time'))

local function each(key, list)
  local args = {}
  for _, rank in ipairs(list) do
    args[#args + 1] = 'SET'
    args[#args + 1] = 'u1'
    args[#args + 1] = int(off(rank))
    args[#args + 1] = 1
  end
  call('BITFIELD', key, unpack(args))
end

if ARGV[5] == 'few' then
  local list, phones = {}, {}
  for i = 7, #ARGV do
    local rank = tonumber(ARGV[i])
    if rank >= num('base') and rank < num('next') and bit_of(K.left, rank) == 0 then
      list[#list + 1] = rank
      if i < 7 + tonumber(ARGV[6]) then phones[#phones + 1] = rank end
    end
  end
  if #phones > 0 then each(phone_slot(), phones) end
  if #list > 0 then
    each(K.live, list)
    each(slot(), list)
  end
  return 1
end

-- merge ORs brought into each of keys, less those who left.
local function merge(brought, keys)
  if call('EXISTS', K.left) == 1 then
    even({ brought, K.left })
    -- brought AND NOT left
    call('BITOP', 'AND', K.tmp2, brought, K.left)
    call('BITOP', 'XOR', brought, brought, K.tmp2)
    call('UNLINK', K.tmp2)
  end
  even({ brought, unpack(keys) })
  for _, key in ipairs(keys) do call('BITOP', 'OR', key, key, brought) end
end

merge(K.tmp, { K.live, slot() })
if call('EXISTS', K.tmp3) == 1 then merge(K.tmp3, { phone_slot() }) end
if quiet(now) and #ARGV[6] > 0 then
  call('SET', K.tmp, ARGV[6])
  merge(K.tmp, { K.counted })
  if s.cleared == '1' then uncount() end
end
return done(1)
