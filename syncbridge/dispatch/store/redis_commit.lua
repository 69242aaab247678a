-- One group commit: all of it or, where the reply is not OK or an error, nothing. The same commit twice is done once.
--
-- KEYS[1]  <prefix>meta      see redis_open.lua
-- KEYS[2]  <prefix>lock      its owner commits, so it lives
-- KEYS[3]  <prefix>head      hash: job id -> head (layout below)
-- KEYS[4]  <prefix>payload   hash: job id -> payload
-- KEYS[5]  <prefix>join      sorted set, all scores 0: function and join key, each with its length in 4 bytes before it,
--                            then the job id in 8 bytes; of the jobs that are not dead
-- KEYS[6]  <prefix>scheduled sorted set, all scores 0: due, job id, 8 bytes each
-- KEYS[7]  <prefix>dead      the same of the dead-letter list
-- KEYS[8]  <prefix>places    hash: key of a place that holds jobs -> their payload bytes
-- KEYS[9]  <prefix>result    hash: job id -> result
-- KEYS[10] <prefix>expiry    sorted set: job id, score: when its result expires
-- KEYS[11] <prefix>settings  hash
-- KEYS[12..]                 places: sorted sets of job ids (decimal, score the same)
--
-- ARGV[1]  token             of the owner
-- ARGV[2]  seq               number of this commit; a commit with that number or a later one was done: nothing happens
-- ARGV[3]  acknowledged      number of the last commit that was answered: a queue that does not know it lost something
-- ARGV[4]  lease             ms
-- ARGV[5]  grows             "1": it needs memory; "0": it must also work where Redis has none left
-- ARGV[6]  next id           or "0"
-- ARGV[7..] steps, one after another; a place is an index into KEYS; a job that is not in its place is left alone:
--   A place n  (id head payload) x n               add; an id that is there already is left alone
--   M old new id state attempts due function note  move; state 1 byte, attempts 4, due 8, texts with their lengths
--   T place id attempts                            note deliveries without an answer, 4 bytes
--   R place n  id x n                              remove
--   O id result expires                            keep a result
--   X until                                        results that expire by then go
--   S name value | D name                          set | delete a setting
--
-- A head: format 1 | has a join key | state | priority | due 8 | attempts 4 | submitted 8 | size 8 | function, note,
-- unique, reducer, each with its length in 4 bytes before it | join key. Numbers are big-endian. A head that is none does
-- not stop anything; its job stays unreadable.
--
-- Reply: "OK", "FENCED" (another server owns the queue) or "LOST" (the queue is gone or lacks acknowledged commits).

local META, LOCK, HEADS, PAYLOADS, JOINS = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local DUES, PLACES, RESULTS, EXPIRIES, SETTINGS = {KEYS[6], KEYS[7]}, KEYS[8], KEYS[9], KEYS[10], KEYS[11]
local FIXED, DEAD_STATE, SOME = 32, 2, 500
local call, sub, byte = redis.call, string.sub, string.byte
local pack, unpack_number = struct.pack, struct.unpack

local owner = call('HGET', META, 'owner')
if owner ~= ARGV[1] then return owner and 'FENCED' or 'LOST' end
local done = tonumber(call('HGET', META, 'seq') or -1)
if done >= tonumber(ARGV[2]) then return 'OK' end
if done < tonumber(ARGV[3]) then return 'LOST' end

-- The first write decides: Redis refuses it for lack of memory, or it lets this script finish.
if ARGV[5] == '0' then call('PEXPIRE', LOCK, ARGV[4]) end
call('HSET', META, 'seq', ARGV[2])
call('SET', LOCK, ARGV[1], 'PX', ARGV[4])
if ARGV[6] ~= '0' then call('HSET', META, 'next_id', ARGV[6]) end

local at = 7
local last = tonumber(call('HGET', META, 'last') or 0)
local highest = last
local grown = {}  -- place -> payload bytes more or less

local function grow(place, bytes) grown[place] = (grown[place] or 0) + bytes end

local function long(id) return pack('>I8', tonumber(id)) end

-- Where the text after the one at `from` begins; nil when the head ends before.
local function skip(head, from)
  if not from or from + 3 > #head then return nil end
  local next = from + 4 + unpack_number('>I4', head, from)
  return next <= #head + 1 and next or nil
end

-- Where note, unique and join key begin; nil for a head that is none.
local function anatomy(head)
  if not head or #head < FIXED or byte(head, 1) ~= 1 then return nil end
  local note = skip(head, FIXED + 1)
  local unique = skip(head, note)
  local key = skip(head, skip(head, unique))
  if key then return note, unique, key end
end

local function index(command, id, head, note, key)
  local state = byte(head, 3)
  if byte(head, 2) == 1 and state ~= DEAD_STATE then
    local member = sub(head, FIXED + 1, note - 1) .. pack('>I4', #head - key + 1) .. sub(head, key) .. long(id)
    if command == 'ZADD' then call('ZADD', JOINS, 0, member) else call('ZREM', JOINS, member) end
  end
  if state ~= 0 then
    local member = sub(head, 5, 12) .. long(id)
    if command == 'ZADD' then call('ZADD', DUES[state], 0, member) else call('ZREM', DUES[state], member) end
  end
end

-- Out of the lists by time, for a job whose head no longer says where it is in them: slow, and never needed.
local function lose(id)
  local tail = long(id)
  for _, list in ipairs(DUES) do
    for from = 0, call('ZCARD', list), SOME do
      for _, member in ipairs(call('ZRANGE', list, from, from + SOME - 1)) do
        if sub(member, 9) == tail then call('ZREM', list, member) end
      end
    end
  end
end

local step = {}

function step.A()
  local place, n = KEYS[tonumber(ARGV[at + 1])], tonumber(ARGV[at + 2])
  at = at + 3
  local bytes, heads, payloads, ids = 0, {}, {}, {}
  local function flush()
    if #ids == 0 then return end
    call('HSET', HEADS, unpack(heads))
    call('HSET', PAYLOADS, unpack(payloads))
    call('ZADD', place, unpack(ids))
    heads, payloads, ids = {}, {}, {}
  end
  for i = at, at + 3 * n - 1, 3 do
    local id, head, payload = ARGV[i], ARGV[i + 1], ARGV[i + 2]
    local number = tonumber(id)
    local known = number <= last and call('HEXISTS', HEADS, id) == 1
    if number > highest then highest = number end
    if not known then
      local size = #ids
      heads[size + 1], heads[size + 2] = id, head
      payloads[size + 1], payloads[size + 2] = id, payload
      ids[size + 1], ids[size + 2] = id, id
      bytes = bytes + #payload
      if byte(head, 2) == 1 or byte(head, 3) ~= 0 then
        local note, _, key = anatomy(head)
        index('ZADD', id, head, note, key)
      end
      if size >= SOME then flush() end
    end
  end
  flush()
  at = at + 3 * n
  grow(place, bytes)
end

function step.M()
  local old, new, id, state = KEYS[tonumber(ARGV[at + 1])], KEYS[tonumber(ARGV[at + 2])], ARGV[at + 3], ARGV[at + 4]
  local attempts, due, name, why = ARGV[at + 5], ARGV[at + 6], ARGV[at + 7], ARGV[at + 8]
  at = at + 9
  if call('ZREM', old, id) == 0 then return end
  local head = call('HGET', HEADS, id)
  local note, unique, key = anatomy(head)
  if note then
    index('ZREM', id, head, note, key)
    head = sub(head, 1, 2) .. state .. sub(head, 4, 4) .. due .. attempts .. sub(head, 17, FIXED) .. name .. why
      .. sub(head, unique)
  else  -- a size that no payload has keeps it unreadable
    lose(id)
    head = '\1\0' .. state .. '\1' .. due .. attempts .. long(0) .. '\127' .. string.rep('\255', 7) .. name .. why
      .. string.rep('\0', 8)
  end
  local size = call('HSTRLEN', PAYLOADS, id)
  call('HSET', HEADS, id, head)
  call('ZADD', new, id, id)
  grow(old, -size)
  grow(new, size)
  note, unique, key = anatomy(head)
  index('ZADD', id, head, note, key)
end

function step.T()
  local place, id, attempts = KEYS[tonumber(ARGV[at + 1])], ARGV[at + 2], ARGV[at + 3]
  at = at + 4
  if not call('ZSCORE', place, id) then return end
  local head = call('HGET', HEADS, id)
  if anatomy(head) then call('HSET', HEADS, id, sub(head, 1, 12) .. attempts .. sub(head, 17)) end
end

function step.R()
  local place, n = KEYS[tonumber(ARGV[at + 1])], tonumber(ARGV[at + 2])
  at = at + 3
  local bytes, gone = 0, {}
  local function flush()
    if #gone == 0 then return end
    call('HDEL', HEADS, unpack(gone))
    call('HDEL', PAYLOADS, unpack(gone))
    gone = {}
  end
  for i = at, at + n - 1 do
    local id = ARGV[i]
    if call('ZREM', place, id) == 1 then
      local head = call('HGET', HEADS, id)
      local note, _, key = anatomy(head)
      if note then index('ZREM', id, head, note, key) else lose(id) end
      bytes = bytes + call('HSTRLEN', PAYLOADS, id)
      gone[#gone + 1] = id
      if #gone >= SOME then flush() end
    end
  end
  flush()
  at = at + n
  grow(place, -bytes)
end

function step.O()
  call('HSET', RESULTS, ARGV[at + 1], ARGV[at + 2])
  call('ZADD', EXPIRIES, ARGV[at + 3], ARGV[at + 1])
  at = at + 4
end

function step.X()
  while true do
    local gone = call('ZRANGEBYSCORE', EXPIRIES, '-inf', ARGV[at + 1], 'LIMIT', 0, SOME)
    if #gone == 0 then break end
    call('HDEL', RESULTS, unpack(gone))
    call('ZREM', EXPIRIES, unpack(gone))
  end
  at = at + 2
end

function step.S()
  call('HSET', SETTINGS, ARGV[at + 1], ARGV[at + 2])
  at = at + 3
end

function step.D()
  call('HDEL', SETTINGS, ARGV[at + 1])
  at = at + 2
end

while ARGV[at] do step[ARGV[at]]() end
if highest > last then call('HSET', META, 'last', string.format('%.0f', highest)) end
for place, bytes in pairs(grown) do
  if call('EXISTS', place) == 0 then call('HDEL', PLACES, place) else call('HINCRBY', PLACES, place, bytes) end
end
return 'OK'
