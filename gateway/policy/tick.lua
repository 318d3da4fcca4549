-- A gateway's word to the others, a few times a second.
-- KEYS[1]  hash: the policies that operators set, and their version
-- KEYS[2]  sorted set: gateways by when they were last heard of, milliseconds
-- KEYS[3]  hash: what came out under the version that the gateway knows
-- ARGV[1]  the gateway's id; '' to only read
-- ARGV[2]  how long a gateway counts without a word, milliseconds
-- ARGV[3]  the version that it knows
-- ARGV[4…] names and what is to be added to them in KEYS[3]
-- Returns {gateways, version ('' for none), document ('' unless the version is newer), at, by}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[1] ~= '' then
  redis.call('ZADD', KEYS[2], now, ARGV[1])
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - ARGV[2])
  redis.call('ZREMRANGEBYSCORE', KEYS[2], now + ARGV[2], '+inf') -- the clock went back
  redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -1001)
  redis.call('PEXPIRE', KEYS[2], 10 * ARGV[2])
end
for i = 4, #ARGV, 2 do redis.call('HINCRBY', KEYS[3], ARGV[i], ARGV[i + 1]) end
if #ARGV > 3 then redis.call('EXPIRE', KEYS[3], 7 * 86400) end
local kept = redis.call('HMGET', KEYS[1], 'version', 'document', 'at', 'by')
local version, document = kept[1] or '', ''
if version ~= '' and tonumber(version) > tonumber(ARGV[3]) then document = kept[2] end
return { redis.call('ZCARD', KEYS[2]), version, document, kept[3] or '0', kept[4] or '' }
