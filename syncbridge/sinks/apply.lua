-- Applies a batch of key operations of one lane, each only where its version is newer than what is stored (DESIGN P2).
--
-- KEYS[1]  syncbridge:<name>:meta   hash: who this Redis is; its sink_id must be ARGV[1]. Its fields floor:<mapping id>
--                                   hold what sweep.lua left: writes of that mapping below this version are stale
-- KEYS[2]  syncbridge:<name>:marks  hash: lane -> version of the last event applied
-- KEYS[3], KEYS[4], ...             for each operation its data key and its companion key
--
-- ARGV[1]  expected sink_id         else the reply is the error SINKLOST and nothing is written
-- ARGV[2]  lane, or ""              "" leaves the marks alone (not the last batch of a job, retries)
-- ARGV[3]  version for the mark
-- ARGV[4]  tombstone lifetime, ms
-- ARGV[5..] operations, one after another:
--   H ttl n m  (field value) x n/2  field x m   write a hash: set n/2 fields (the first is _v with the guard), delete m
--   S ttl guard value                           write a string
--   h guard | s guard                           remove a hash | a string
--   d guard | t guard                           the same if we wrote it; without a key, no tombstone is left
--   x guard ms | y guard ms                     let a hash | a string expire
--   P ttl n m  (field value) x n/2  field x m   put a hash | V ttl value: put a string | p, v: remove a hash | a string |
--   q ms, w ms: let one expire. Without guards, for mappings of plain functions: the last call wins, whoever wrote before
--   ttl: "" leave as it is, "0" none, else ms. It also prolongs the companion: ttl + tombstone lifetime.
--
-- Guard: format digit "1", version (40 hex), mapping id (8 hex), owner row. It lives in the field _v of a hash, and in
-- the companion key of a string, of a removed key (tombstone, expires) and of a key that may expire.
--
-- Reply: one element for each operation: 1 applied, 0 stale or not the owner's, or the error text of an operation that
-- fails by itself. An error that means the sink is sick is the reply of the whole call: what was applied stays, and
-- applying it again changes nothing.

local SICK = {OOM = 1, READONLY = 1, LOADING = 1, MASTERDOWN = 1, CLUSTERDOWN = 1, NOREPLICAS = 1, MISCONF = 1,
              BUSY = 1, TRYAGAIN = 1, NOPERM = 1, NOAUTH = 1}
local pcall, sub, byte = redis.pcall, string.sub, string.byte
local tombstone = tonumber(ARGV[4])

-- The newest guard of a key: text, or nil; then whether it was in the companion; or nil, nil, error.
-- For writers: then whether a string has to go.
local function hash_guard(key, companion)
  local stored = pcall('HGET', key, '_v')
  if type(stored) == 'string' then return stored, false end
  local failed = type(stored) == 'table' and stored.err or nil
  if failed and (sub(failed, 1, 9) ~= 'WRONGTYPE' or pcall('TYPE', key).ok ~= 'string') then return nil, nil, failed end
  stored = pcall('GET', companion)
  if type(stored) == 'table' then return nil, nil, stored.err end
  -- A string where a hash should be is ours only if it has a guard: the mapping's type was changed.
  if failed and not stored then return nil, nil, failed end
  return stored or nil, true, nil, failed ~= nil
end

local function string_guard(key, companion)
  local kind = pcall('TYPE', key).ok
  local stored = pcall('GET', companion)
  if type(stored) == 'table' then return nil, nil, stored.err end
  if kind == 'hash' then
    stored = pcall('HGET', key, '_v')
    if not stored then kind = 'foreign' end
  end
  if kind ~= 'string' and kind ~= 'none' and kind ~= 'hash' then
    return nil, nil, 'WRONGTYPE Operation against a key holding the wrong kind of value'
  end
  return stored or nil, true, nil, kind == 'hash'
end

-- 1 newer, 0 not, or an error text.
local function compare(stored, guard)
  if not stored then return 1 end
  if byte(stored) ~= 49 then return 'GUARD of a newer format: run the syncbridge version that wrote it' end
  return sub(stored, 2, 41) < sub(guard, 2, 41) and 1 or 0
end

local function expire(key, companion, ttl, guard)
  if ttl == '' then return end
  if ttl == '0' then return pcall('PERSIST', key) end
  pcall('PEXPIRE', key, ttl)
  return pcall('SET', companion, guard, 'PX', tonumber(ttl) + tombstone)
end

-- Error text or nil. unpack() has room for about 8000 values.
local function set_fields(key, first, n)
  local last = first + n - 1
  while first <= last do
    local reply = pcall('HSET', key, unpack(ARGV, first, math.min(first + 5999, last)))
    if type(reply) == 'table' then return reply.err end
    first = first + 6000
  end
end

local function delete_fields(key, first, m)
  local last = first + m - 1
  while first <= last do
    local reply = pcall('HDEL', key, unpack(ARGV, first, math.min(first + 5999, last)))
    if type(reply) == 'table' then return reply.err end
    first = first + 6000
  end
end

local function write_hash(key, companion, at, absent)
  local ttl, n, m, guard = ARGV[at + 1], tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]), ARGV[at + 5]
  if absent and ttl == '0' then return set_fields(key, at + 4, n) or 1 end
  local stored, from_companion, failed, replace = hash_guard(key, companion)
  if failed then return failed end
  local order = compare(stored, guard)
  if order ~= 1 then return order end
  if replace then pcall('DEL', key) end
  failed = set_fields(key, at + 4, n) or delete_fields(key, at + 4 + n, m)
  if failed then return failed end
  if stored and from_companion then pcall('DEL', companion) end
  local reply = expire(key, companion, ttl, guard)
  return type(reply) == 'table' and reply.err or 1
end

local function write_string(key, companion, at)
  local ttl, guard, value = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local stored, _, failed = string_guard(key, companion)
  if failed then return failed end
  local order = compare(stored, guard)
  if order ~= 1 then return order end
  -- Data first: should the second SET fail, the retry finds the old guard and writes both again.
  if ttl == '' or ttl == '0' then
    local reply = pcall('SET', key, value)
    return reply.err or pcall('SET', companion, guard).err or 1
  end
  local reply = pcall('SET', key, value, 'PX', ttl)
  return reply.err or pcall('SET', companion, guard, 'PX', tonumber(ttl) + tombstone).err or 1
end

-- Whether a removal may touch the key: 1, 0 or an error text; then whether there is data.
local function may_remove(key, companion, guard, is_hash)
  local find = is_hash and hash_guard or string_guard
  local stored, _, failed = find(key, companion)
  if failed then return failed end
  local order = compare(stored, guard)
  if order ~= 1 then return order end
  local alive = pcall('EXISTS', key) == 1
  if alive and stored and sub(stored, 42) ~= sub(guard, 42) then return 0 end
  return 1, alive, stored
end

local function remove(key, companion, guard, is_hash, only_ours)
  local may, alive, stored = may_remove(key, companion, guard, is_hash)
  if may ~= 1 then return may end
  if only_ours and not (alive and stored) then return 0 end
  local reply = pcall('SET', companion, guard, 'PX', tombstone)
  if reply.err then return reply.err end
  pcall('DEL', key)
  return 1
end

local function let_expire(key, companion, guard, ms, is_hash)
  local may, alive = may_remove(key, companion, guard, is_hash)
  if may ~= 1 then return may end
  local reply = pcall('SET', companion, guard, 'PX', tonumber(ms) + tombstone)
  if reply.err then return reply.err end
  if alive then
    if is_hash then
      reply = pcall('HSET', key, '_v', guard)
      if type(reply) == 'table' then return reply.err end
    end
    pcall('PEXPIRE', key, ms)
  end
  return 1
end

-- Without a guard only the type is looked at: what is no hash, or no string, is somebody else's.
local function wrong_type(key, is_hash)
  local kind = pcall('TYPE', key).ok
  if kind ~= 'none' and kind ~= (is_hash and 'hash' or 'string') then
    return 'WRONGTYPE Operation against a key holding the wrong kind of value'
  end
end

local function let_live(key, ttl)
  local reply = ttl == '0' and pcall('PERSIST', key) or pcall('PEXPIRE', key, ttl)
  return type(reply) == 'table' and reply.err or 1
end

local function put_hash(key, at)
  local ttl, n, m = ARGV[at + 1], tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  local failed = wrong_type(key, true)
  if failed then return failed end
  failed = set_fields(key, at + 4, n) or delete_fields(key, at + 4 + n, m)
  return failed or let_live(key, ttl)
end

local function put_string(key, at)
  local ttl, value = ARGV[at + 1], ARGV[at + 2]
  local failed = wrong_type(key, false)
  if failed then return failed end
  local reply = ttl == '0' and pcall('SET', key, value) or pcall('SET', key, value, 'PX', ttl)
  return reply.err or 1
end

local function take_away(key, is_hash, ms)
  local failed = wrong_type(key, is_hash)
  if failed then return failed end
  local reply
  if ms then reply = pcall('PEXPIRE', key, ms) else reply = pcall('DEL', key) end
  return type(reply) == 'table' and reply.err or reply
end

-- Sweeps leave no tombstones: a worker that slept through one must not bring back what it had in its hands.
local floors = {}
local function below_floor(guard)
  local id = sub(guard, 42, 49)
  local floor = floors[id]
  if floor == nil then
    floor = pcall('HGET', KEYS[1], 'floor:' .. id)
    floors[id] = floor
  end
  return floor and sub(guard, 2, 41) < floor
end

if pcall('HGET', KEYS[1], 'sink_id') ~= ARGV[1] then
  return redis.error_reply('SINKLOST this Redis is not the one that was filled')
end

-- Bulk loads write keys that are not there: one look at all of them spares each a look of its own. A key that this
-- very call has touched before is looked at, as ever. unpack() has room for about 8000 values.
local fresh, touched = false, {}
if ARGV[5] == 'H' and #KEYS < 6000 and pcall('EXISTS', KEYS[3], KEYS[4]) == 0 then
  fresh = pcall('EXISTS', unpack(KEYS, 3)) == 0
end

local results, at = {}, 5
for i = 3, #KEYS, 2 do
  local key, companion, code = KEYS[i], KEYS[i + 1], ARGV[at]
  local absent, result = false, nil
  if fresh then
    absent = not (touched[key] or touched[companion])
    touched[key], touched[companion] = true, true
  end
  if code == 'H' then
    result = below_floor(ARGV[at + 5]) and 0 or write_hash(key, companion, at, absent)
    at = at + 4 + ARGV[at + 2] + ARGV[at + 3]
  elseif code == 'S' then
    result = below_floor(ARGV[at + 2]) and 0 or write_string(key, companion, at)
    at = at + 4
  elseif code == 'h' or code == 's' then
    result = remove(key, companion, ARGV[at + 1], code == 'h')
    at = at + 2
  elseif code == 'd' or code == 't' then
    result = remove(key, companion, ARGV[at + 1], code == 'd', true)
    at = at + 2
  elseif code == 'x' or code == 'y' then
    result = let_expire(key, companion, ARGV[at + 1], ARGV[at + 2], code == 'x')
    at = at + 3
  elseif code == 'P' then
    result = put_hash(key, at)
    at = at + 4 + ARGV[at + 2] + ARGV[at + 3]
  elseif code == 'V' then
    result = put_string(key, at)
    at = at + 3
  elseif code == 'p' or code == 'v' then
    result = take_away(key, code == 'p')
    at = at + 1
  else
    result = take_away(key, code == 'q', ARGV[at + 1])
    at = at + 2
  end
  if type(result) == 'string' and SICK[string.match(result, '^%-?(%u+)')] then
    return redis.error_reply((string.gsub(result, '^%-', '')))
  end
  results[#results + 1] = result
end

if ARGV[2] ~= '' then
  local mark = pcall('HGET', KEYS[2], ARGV[2])
  if not mark or (type(mark) == 'string' and mark < ARGV[3]) then
    local reply = pcall('HSET', KEYS[2], ARGV[2], ARGV[3])
    if type(reply) == 'table' then return redis.error_reply((string.gsub(reply.err, '^%-', ''))) end
  elseif type(mark) == 'table' then
    return redis.error_reply(mark.err)
  end
end
return results
