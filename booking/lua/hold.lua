-- Holds units for a session: all of them or none.
-- ARGV 2 length of the map, 3 id, 4 session, 5 lifetime (ms), 6 never longer than (ms since 1970),
--      7 units that the session may have at most, 8 hold to give back first, or '',
--      9 seats "1,2" or '', 10 areas "first:capacity:quantity …" or '',
--      11 how many best seats, or 0, 12 '1' if they must be neighbours,
--      13 runs of neighbouring seats "first:length:ideal start …", best first, for the
--         best seats and for an alternative
-- Returns {'ok', ends (ms), units "1,2"} | {'limit', units the session has} |
--         {'taken', taken "1,2", alternative "3,4" or ''} | {'over'} (6 has passed) | {'missing'}
local length, id, session, runs = ARGV[2], ARGV[3], ARGV[4], ARGV[13]
if missing(length) then return {'missing'} end
expire()
local ends = math.min(now + ARGV[5], tonumber(ARGV[6]))
if ends <= now then return {'over'} end

-- The old hold is given back before anything is chosen, and taken again if that fails.
-- One that was given back before has nothing to give: its units may be others' by now.
local old = ARGV[8]
local before = old ~= '' and redis.call('HMGET', hold(old), 'session', 'units', 'order', 'gone') or {}
local replaces = before[1] == session and before[3] == '' and not before[4]
local old_ends
if replaces then
	old_ends = tonumber(redis.call('ZSCORE', due, old))
	drop(old, session, before[2])
end
local function undo()
	if replaces then
		local units = {}
		for unit in string.gmatch(before[2], '%d+') do units[#units + 1] = unit end
		take(old, session, units, old_ends)
	end
end

local whole = redis.call('GET', map)
local function free(unit)
	return string.byte(whole, unit + 1) == 0
end

-- lonely tells whether taking n seats from at on (1 is the map's first) would leave one
-- free seat alone beside them within the run.
local function lonely(at, n, first, last)
	local function side(one, two)
		return one >= first and one <= last and string.byte(whole, one) == 0
			and (two < first or two > last or string.byte(whole, two) ~= 0)
	end
	return side(at - 1, at - 2) or side(at + n, at + n + 1)
end

-- near returns n free neighbours of the first run that has them, as close to the run's
-- ideal start as possible, rather elsewhere in the run than leaving a seat alone; loose
-- returns the first n free seats of all runs.
local function near(n)
	local gap = string.rep(FREE, n)
	for first, len, ideal in string.gmatch(runs, '(%d+):(%d+):(%-?%d+)') do
		local from, last, best, spare = first + 1, first + len - n + 1, nil, nil
		local function nearer(at, than)
			return not than or math.abs(at - 1 - ideal) < math.abs(than - 1 - ideal)
		end
		while from <= last do
			local at = string.find(whole, gap, from, true)
			if not at or at > last then break end
			if not lonely(at, n, first + 1, first + len) then
				if not nearer(at, best) then break end
				best = at
			elseif nearer(at, spare) then
				spare = at
			end
			from = at + 1
		end
		best = best or spare
		if best then
			local units = {}
			for i = 0, n - 1 do units[#units + 1] = best - 1 + i end
			return units
		end
	end
	return {}
end
local function loose(n)
	local units = {}
	for first, len in string.gmatch(runs, '(%d+):(%d+):') do
		for unit = tonumber(first), first + len - 1 do
			if #units == n then return units end
			if free(unit) then units[#units + 1] = unit end
		end
	end
	return #units == n and units or {}
end

local units, taken, short, wanted = {}, {}, false, 0
for unit in string.gmatch(ARGV[9], '%d+') do
	wanted = wanted + 1
	if free(tonumber(unit)) then units[#units + 1] = tonumber(unit) else taken[#taken + 1] = unit end
end
for first, capacity, quantity in string.gmatch(ARGV[10], '(%d+):(%d+):(%d+)') do
	local from, last = first + 1, first + capacity
	for _ = 1, quantity do
		local at = string.find(whole, FREE, from, true)
		if not at or at > last then short = true break end
		units[#units + 1] = at - 1
		from = at + 1
	end
	wanted = wanted + quantity
end
local best = tonumber(ARGV[11])
wanted = wanted + best
local has = spent(session)
if has + wanted > tonumber(ARGV[7]) then
	undo()
	return {'limit', has}
end
if best > 0 then
	units = ARGV[12] == '1' and near(best) or loose(best)
	short = #units < best
end
if #taken > 0 or short then
	local other = {}
	if best > 0 then
		other = loose(best)
	elseif ARGV[10] == '' then
		other = near(wanted)
	end
	undo()
	return {'taken', table.concat(taken, ','), table.concat(other, ',')}
end

table.sort(units)
if replaces then
	redis.call('HSET', hold(old), 'gone', 1) -- its id is not to be honoured as forgotten
end
take(id, session, units, ends)
return {'ok', ends, table.concat(units, ',')}
