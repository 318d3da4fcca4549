-- Put in front of every script of this folder: what the scripts share.
-- KEYS of all of them, one performance of one event (all keys of an event share a slot):
--   1 map    one byte a unit: 0 free, 1 held or reserved, 2 sold, 3 blocked
--   2 own    hash: unit → id of the hold that took it (kept when it is sold)
--   3 due    sorted set: id of a hold → when it ends (ms of Redis' clock)
--   4 dirty  set: units changed since the last published version
--   5 meta   hash: version
--   6 log    list: what each of the latest versions changed, "unit=state …"
-- ARGV[1] is the prefix of the event's keys. Two kinds of key are named from it:
--   hold:<id>       hash: session, units ("1,2"), order ('' while it is a mere hold), at (ms, when
--                   it became one), gone
--   session:<id>    hash: id of a hold → units that it, or the order made of it, takes
-- A script that finds no map, or one shorter than the performance, returns {'missing'}
-- and changes nothing: the caller rebuilds it from Postgres (reconcile.lua).
local map, own, due, dirty, meta, log = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local prefix = ARGV[1]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local FREE, HELD, SOLD, BLOCKED = '\0', '\1', '\2', '\3'
local DAY = 86400000

local function missing(length)
	return redis.call('STRLEN', map) < tonumber(length)
end

local function state(unit)
	return redis.call('GETRANGE', map, unit, unit)
end

local function set(unit, byte)
	redis.call('SETRANGE', map, unit, byte)
	redis.call('SADD', dirty, unit)
end

local function hold(id)
	return prefix .. 'hold:' .. id
end

local function purse(session)
	return prefix .. 'session:' .. session
end

-- take gives units, a list of numbers or their texts, to the hold id until ends.
local function take(id, session, units, ends)
	for _, unit in ipairs(units) do
		set(unit, HELD)
		redis.call('HSET', own, unit, id)
	end
	redis.call('HSET', hold(id), 'session', session, 'units', table.concat(units, ','), 'order', '')
	redis.call('PEXPIREAT', hold(id), ends + 3600000)
	redis.call('ZADD', due, ends, id)
	redis.call('HSET', purse(session), id, #units)
	redis.call('PEXPIRE', purse(session), DAY)
end

-- drop frees those of units (text "1,2") that still belong to the hold id.
local function drop(id, session, units)
	for unit in string.gmatch(units, '%d+') do
		if redis.call('HGET', own, unit) == id then
			redis.call('HDEL', own, unit)
			set(unit, FREE)
		end
	end
	redis.call('ZREM', due, id)
	redis.call('HDEL', purse(session), id)
end

-- expire ends the holds whose time is over, a bounded number at once. One that became an
-- order keeps its units: time alone frees nothing that Postgres may have reserved. It is
-- kept as gone for its last hour, so that reconcile can tell whose purse it is in.
local function expire()
	for _, id in ipairs(redis.call('ZRANGEBYSCORE', due, '-inf', now, 'LIMIT', 0, 200)) do
		local h = redis.call('HMGET', hold(id), 'session', 'units', 'order')
		redis.call('ZREM', due, id)
		if h[1] and h[3] ~= '' then
			redis.call('HSET', hold(id), 'gone', 1)
		else
			if h[1] then drop(id, h[1], h[2]) end
			redis.call('DEL', hold(id))
		end
	end
end

-- spent counts the units that session holds or has in orders.
local function spent(session)
	local n = 0
	for _, units in ipairs(redis.call('HVALS', purse(session))) do
		n = n + units
	end
	return n
end
