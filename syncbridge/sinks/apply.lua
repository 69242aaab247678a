-- Applies a batch of key operations of one lane, each only where its version is newer than what is stored (DESIGN P2).
--
-- KEYS[1]  syncbridge:<name>:meta   hash: who this Redis is; its sink_id must be ARGV[1]. Its fields floor:<mapping id>
--                                   hold what sweep.lua left: writes of that mapping below this version are stale.
--                                   Its field bare is the sink_id as long as this Redis never had a companion key
-- KEYS[2]  syncbridge:<name>:marks  hash: lane -> version of the last event applied
-- KEYS[3], KEYS[4], ...             data keys: one for each operation, of R, r and N for each row. Their companion keys
--                                   are made here (as in keys.py): in the slot of the data key, so naming that is enough
--
-- ARGV[1]  expected sink_id         else the reply is the error SINKLOST and nothing is written
-- ARGV[2]  lane, or ""              "" leaves the marks alone (not the last batch of a job, retries)
-- ARGV[3]  version for the mark
-- ARGV[4]  tombstone lifetime, ms
-- ARGV[5]  what companion keys begin with
-- ARGV[6..] operations, one after another:
--   H ttl n m  (field value) x n/2  field x m   write a hash: set n/2 fields (the first is _v with the guard), delete m
--   R ttl rows t v m nulls texts  field x (t-1)  field x v  field x m  (value x v) x rows
--                                               write a hash for each row, all of one mapping. texts: for each row t texts,
--                                               guard and values of the first fields, each ended by a NUL, and NULs until
--                                               they are a multiple of four; the v values of the others stand alone. m:
--                                               fields to delete in every row. nulls: which values are NULL,
--                                               row * (t-1+v) + field, counted from 0; "" none
--   N guard payload x keys                      alone in its call: create a hash for each key of what DUMP would answer,
--                                               guards in it, the least of them here; or, where a key is there, or was,
--                                               or may not be created, reply -1: rows that were created before that one
--                                               are there, nothing else was done
--   r rows guards                               remove a hash for each row; guards: each ended by a NUL
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
-- Reply: where all were applied, how many operations and rows they were. Else one element for each operation or row: 1
-- applied, 0 stale or not the owner's, or the error text of an operation that fails by itself. An error that means the
-- sink is sick is the reply of the whole call: what was applied stays, and applying it again changes nothing.

local SICK = {OOM = 1, READONLY = 1, LOADING = 1, MASTERDOWN = 1, CLUSTERDOWN = 1, NOREPLICAS = 1, MISCONF = 1,
              BUSY = 1, TRYAGAIN = 1, NOPERM = 1, NOAUTH = 1}
local pcall, sub, byte, find, unpack, cut = redis.pcall, string.sub, string.byte, string.find, unpack, struct.unpack
local tombstone, prefix = ARGV[4], ARGV[5]

local function companion_of(key)
  local opening = find(key, '{', 1, true)
  if opening then
    local closing = find(key, '}', opening + 1, true)
    if closing and closing > opening + 1 then return prefix .. key end
  end
  return prefix .. '{' .. key .. '}'
end

-- The guard goes into the companion. From then on all_absent() has to look at companions.
local id, bare = unpack(pcall('HMGET', KEYS[1], 'sink_id', 'bare'))
local function keep(key, guard, ms)
  if bare then
    pcall('HDEL', KEYS[1], 'bare')
    bare = false
  end
  if ms then return pcall('SET', companion_of(key), guard, 'PX', ms) end
  return pcall('SET', companion_of(key), guard)
end

-- The newest guard of a key: text, or nil; then whether it was in the companion; or nil, nil, error.
-- For writers: then whether a string has to go.
local function hash_guard(key)
  local stored = pcall('HGET', key, '_v')
  if type(stored) == 'string' then return stored, false end
  local failed = type(stored) == 'table' and stored.err or nil
  if failed and (sub(failed, 1, 9) ~= 'WRONGTYPE' or pcall('TYPE', key).ok ~= 'string') then return nil, nil, failed end
  stored = pcall('GET', companion_of(key))
  if type(stored) == 'table' then return nil, nil, stored.err end
  -- A string where a hash should be is ours only if it has a guard: the mapping's type was changed.
  if failed and not stored then return nil, nil, failed end
  return stored or nil, true, nil, failed ~= nil
end

local function string_guard(key)
  local kind = pcall('TYPE', key).ok
  local stored = pcall('GET', companion_of(key))
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

-- 1 newer, 0 not, or an error text. Of the new guard only format and version are compared: cut behind them, it is less
-- than every guard of the same version.
local function compare(stored, guard)
  if not stored then return 1 end
  if byte(stored) ~= 49 then return 'GUARD of a newer format: run the syncbridge version that wrote it' end
  return stored < sub(guard, 1, 41) and 1 or 0
end

local function expire(key, ttl, guard)
  if ttl == '' then return end
  if ttl == '0' then return pcall('PERSIST', key) end
  pcall('PEXPIRE', key, ttl)
  return keep(key, guard, ttl + tombstone)
end

-- What a hash is to hold are n items of `set` from `first` on, field and value in turn; what it is not to, m fields of
-- `gone` from `begin` on. Both answer an error text or nil. unpack() has room for about 8000 values.
local function set_fields(key, set, first, n)
  local last = first + n - 1
  while n > 6000 do
    local reply = pcall('HSET', key, unpack(set, first, first + 5999))
    if type(reply) == 'table' then return reply.err end
    first, n = first + 6000, n - 6000
  end
  local reply = pcall('HSET', key, unpack(set, first, last))
  return type(reply) == 'table' and reply.err or nil
end

local function delete_fields(key, gone, begin, m)
  local last = begin + m - 1
  while begin <= last do
    local reply = pcall('HDEL', key, unpack(gone, begin, math.min(begin + 5999, last)))
    if type(reply) == 'table' then return reply.err end
    begin = begin + 6000
  end
end

local function write_hash(key, guard, ttl, set, first, n, gone, begin, m)
  local stored, from_companion, failed, replace = hash_guard(key)
  if failed then return failed end
  local order = compare(stored, guard)
  if order ~= 1 then return order end
  if replace then pcall('DEL', key) end
  failed = set_fields(key, set, first, n) or delete_fields(key, gone, begin, m)
  if failed then return failed end
  if stored and from_companion then pcall('DEL', companion_of(key)) end
  local reply = expire(key, ttl, guard)
  return type(reply) == 'table' and reply.err or 1
end

local function write_string(key, at)
  local ttl, guard, value = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local stored, _, failed = string_guard(key)
  if failed then return failed end
  local order = compare(stored, guard)
  if order ~= 1 then return order end
  -- Data first: should the second SET fail, the retry finds the old guard and writes both again.
  if ttl == '' or ttl == '0' then
    local reply = pcall('SET', key, value)
    return reply.err or keep(key, guard).err or 1
  end
  local reply = pcall('SET', key, value, 'PX', ttl)
  return reply.err or keep(key, guard, ttl + tombstone).err or 1
end

-- Whether a removal may touch the key: 1, 0 or an error text; then whether there is data.
local function may_remove(key, guard, is_hash)
  local guard_of = is_hash and hash_guard or string_guard
  local stored, from_companion, failed = guard_of(key)
  if failed then return failed end
  local order = compare(stored, guard)
  if order ~= 1 then return order end
  local alive = not from_companion or pcall('EXISTS', key) == 1
  if alive and stored and sub(stored, 42) ~= sub(guard, 42) then return 0 end
  return 1, alive, stored
end

local function remove(key, guard, is_hash, only_ours)
  local may, alive, stored = may_remove(key, guard, is_hash)
  if may ~= 1 then return may end
  if only_ours and not (alive and stored) then return 0 end
  local reply = keep(key, guard, tombstone)
  if reply.err then return reply.err end
  pcall('DEL', key)
  return 1
end

local function let_expire(key, guard, ms, is_hash)
  local may, alive = may_remove(key, guard, is_hash)
  if may ~= 1 then return may end
  local reply = keep(key, guard, ms + tombstone)
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
  failed = set_fields(key, ARGV, at + 4, n) or delete_fields(key, ARGV, at + 4 + n, m)
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
local function floor_of(guard)
  local id = sub(guard, 42, 49)
  local floor = floors[id]
  if floor == nil then
    floor = pcall('HGET', KEYS[1], 'floor:' .. id)
    floors[id] = floor
  end
  return floor
end

local function below(floor, guard)
  return floor and sub(guard, 2, 41) < floor
end

-- One operation, its arguments from `at` on: its result, and where the next one begins.
local function one(code, key, at, absent)
  if code == 'H' then
    local ttl, n, m, guard = ARGV[at + 1], tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]), ARGV[at + 5]
    local next = at + 4 + n + m
    if below(floor_of(guard), guard) then return 0, next end
    if absent and ttl == '0' then return set_fields(key, ARGV, at + 4, n) or 1, next end
    return write_hash(key, guard, ttl, ARGV, at + 4, n, ARGV, at + 4 + n, m), next
  elseif code == 'S' then
    return below(floor_of(ARGV[at + 2]), ARGV[at + 2]) and 0 or write_string(key, at), at + 4
  elseif code == 'h' or code == 's' then
    return remove(key, ARGV[at + 1], code == 'h'), at + 2
  elseif code == 'd' or code == 't' then
    return remove(key, ARGV[at + 1], code == 'd', true), at + 2
  elseif code == 'x' or code == 'y' then
    return let_expire(key, ARGV[at + 1], ARGV[at + 2], code == 'x'), at + 3
  elseif code == 'P' then
    return put_hash(key, at), at + 4 + ARGV[at + 2] + ARGV[at + 3]
  elseif code == 'V' then
    return put_string(key, at), at + 3
  elseif code == 'p' or code == 'v' then
    return take_away(key, code == 'p'), at + 1
  end
  return take_away(key, code == 'q', ARGV[at + 1]), at + 2
end

-- The result of KEYS[i] is results[i - 2]. `sick`: the error text of a sick sink, which ends everything.
local results, sick = {}, nil
local function is_sick(result)
  if type(result) == 'string' and SICK[string.match(result, '^%-?(%u+)')] then sick = result end
  return sick
end

-- Bulk loads write keys that are not there: one look at all of them spares each a look of its own. No key may be named
-- twice then.
local function all_absent(first, last)
  if last - first >= 3000 or pcall('EXISTS', KEYS[first], companion_of(KEYS[first])) ~= 0 then return false end
  local names, n, seen = {}, 0, {}
  for i = first, last do
    local key = KEYS[i]
    if seen[key] then return false end
    seen[key] = true
    n = n + 1
    names[n] = key
    if not bare then
      n = n + 1
      names[n] = companion_of(key)
    end
  end
  return pcall('EXISTS', unpack(names)) == 0
end

-- Puts a row's texts into every other item of `set`, from the second on; answers where the next row's begin.
local function read_texts(set, t, texts, from)
  for to = 2, 2 * t, 8 do
    set[to], set[to + 2], set[to + 4], set[to + 6], from = cut('ssss', texts, from)
  end
  return from
end

-- row -> its NULL fields, all counted from 0.
local function null_fields(nulls, width)
  local of = {}
  for place in string.gmatch(nulls, '%d+') do
    local row = math.floor(place / width)
    of[row] = of[row] or {}
    of[row][place - row * width] = true
  end
  return of
end

-- A row with NULLs: its items without them, how many these are, and what is not to be in the hash.
local function without(set, n, null, gone)
  local kept, k, left, l = {set[1], set[2]}, 2, {unpack(gone)}, #gone
  for j = 3, n, 2 do
    if null[(j - 3) / 2] then
      l = l + 1
      left[l] = set[j]
    else
      kept[k + 1], kept[k + 2] = set[j], set[j + 1]
      k = k + 2
    end
  end
  return kept, k, left
end

-- R, its arguments from `at` on, its keys from `first` on; answers where the next operation has both.
local function write_rows(first, at)
  local ttl, rows, t, v, m = ARGV[at + 1], tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]), ARGV[at + 4], ARGV[at + 5]
  local width, texts = t - 1 + v, ARGV[at + 7]
  local null = null_fields(ARGV[at + 6], width)
  local set, n, last = {'_v'}, 2 * width + 2, first + rows - 1
  for j = 1, width do set[2 * j + 1] = ARGV[at + 7 + j] end
  at = at + 8 + width
  local gone = {unpack(ARGV, at, at + m - 1)}
  at = at + m
  local plain = ttl == '0' and m == '0'
  local absent = ttl == '0' and all_absent(first, last)
  local from, floor = 1, nil
  for i = first, last do
    from = read_texts(set, t, texts, from)
    for j = 2 * t + 2, n, 2 do
      set[j] = ARGV[at]
      at = at + 1
    end
    local key, guard, row, items, left = KEYS[i], set[2], set, n, gone
    if null[i - first] then row, items, left = without(set, n, null[i - first], gone) end
    if i == first then floor = floor_of(guard) end
    local result
    if below(floor, guard) then
      result = 0
    elseif absent then
      result = set_fields(key, row, 1, items) or 1
    elseif plain and row == set then
      -- What write_hash does for a key that holds our hash, without its detours.
      local stored = pcall('HGET', key, '_v')
      if type(stored) ~= 'string' or byte(stored) ~= 49 then
        result = write_hash(key, guard, ttl, row, 1, items, left, 1, #left)
      elseif stored < sub(guard, 1, 41) then
        result = set_fields(key, row, 1, items) or 1
        if result == 1 then pcall('PERSIST', key) end
      else
        result = 0
      end
    else
      result = write_hash(key, guard, ttl, row, 1, items, left, 1, #left)
    end
    results[i - 2] = result
    if result ~= 1 and is_sick(result) then break end
  end
  return last + 1, at
end

-- r, in the same way. What goes is deleted at once, or before a key is met again.
local function remove_rows(first, at)
  local last, guards = first + ARGV[at + 1] - 1, ARGV[at + 2]
  local doomed, named, n, from, guard = {}, {}, 0, 1, nil
  local function delete()
    for begin = 1, n, 6000 do pcall('DEL', unpack(doomed, begin, math.min(begin + 5999, n))) end
    named, n = {}, 0
  end
  for i = first, last do
    local key = KEYS[i]
    guard, from = cut('s', guards, from)
    if named[key] then delete() end
    local stored = pcall('HGET', key, '_v')
    local result
    if type(stored) ~= 'string' or byte(stored) ~= 49 or sub(stored, 42) ~= sub(guard, 42) then
      result = remove(key, guard, true)
    elseif stored < sub(guard, 1, 41) then
      result = keep(key, guard, tombstone).err or 1
      if result == 1 then
        n = n + 1
        doomed[n], named[key] = key, true
      end
    else
      result = 0
    end
    results[i - 2] = result
    if result ~= 1 and is_sick(result) then break end
  end
  delete()
  return last + 1, at + 3
end

-- N: whether the rows were created. Where some were before an error, a call that compares finds them.
local function create_rows()
  local guard = ARGV[7]
  if below(floor_of(guard), guard) or not all_absent(3, #KEYS) then return false end
  for i = 3, #KEYS do
    if pcall('RESTORE', KEYS[i], '0', ARGV[i + 5]).err then return false end
    results[i - 2] = 1
  end
  return true
end

if id ~= ARGV[1] then
  return redis.error_reply('SINKLOST this Redis is not the one that was filled')
end
bare = bare == id

local i, at, last = 3, 6, #KEYS
if ARGV[6] == 'N' then
  if not create_rows() then return -1 end
  i = last + 1
end
local absent = ARGV[6] == 'H' and all_absent(3, last)
while i <= last and not sick do
  local code = ARGV[at]
  if code == 'R' then
    i, at = write_rows(i, at)
  elseif code == 'r' then
    i, at = remove_rows(i, at)
  else
    local result
    result, at = one(code, KEYS[i], at, absent)
    results[i - 2] = result
    if result ~= 1 then is_sick(result) end
    i = i + 1
  end
end
if sick then return redis.error_reply((string.gsub(sick, '^%-', ''))) end

if ARGV[2] ~= '' then
  local mark = pcall('HGET', KEYS[2], ARGV[2])
  if not mark or (type(mark) == 'string' and mark < ARGV[3]) then
    local reply = pcall('HSET', KEYS[2], ARGV[2], ARGV[3])
    if type(reply) == 'table' then return redis.error_reply((string.gsub(reply.err, '^%-', ''))) end
  elseif type(mark) == 'table' then
    return redis.error_reply(mark.err)
  end
end
for n = 1, #results do
  if results[n] ~= 1 then return results end
end
return #results
