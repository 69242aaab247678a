-- Removes keys that a mapping wrote before a version: what TRUNCATE, or a finished re-snapshot, leaves behind.
--
-- KEYS[1]  syncbridge:<name>:meta   hash; its sink_id must be ARGV[1], else the error SINKLOST. Its field
--                                   floor:<mapping id> rises to ARGV[7]: apply.lua writes nothing older
-- KEYS[2], KEYS[3], ...             candidates: data key and companion key in turn
--
-- ARGV[1]  expected sink_id
-- ARGV[2]  mapping id: only keys whose guard names it
-- ARGV[3]  version: only keys whose guard is older
-- ARGV[4]  "h" guards in the field _v of hashes, "s" in companions
-- ARGV[5]  "" remove, else let expire after so many ms
-- ARGV[6]  tombstone lifetime, ms
-- ARGV[7]  floor: version below which the mapping's writes are stale from now on
--
-- Reply: number of keys swept. Tombstones stay until they expire.

if redis.call('HGET', KEYS[1], 'sink_id') ~= ARGV[1] then
  return redis.error_reply('SINKLOST this Redis is not the one that was filled')
end

local floor = redis.call('HGET', KEYS[1], 'floor:' .. ARGV[2])
if not floor or floor < ARGV[7] then
  redis.call('HSET', KEYS[1], 'floor:' .. ARGV[2], ARGV[7])
end

local swept = 0
for i = 2, #KEYS, 2 do
  local key, companion = KEYS[i], KEYS[i + 1]
  local guard
  if ARGV[4] == 'h' then
    guard = redis.pcall('HGET', key, '_v')
  elseif redis.call('EXISTS', key) == 1 then
    guard = redis.pcall('GET', companion)
  end
  if type(guard) == 'string' and string.sub(guard, 42, 49) == ARGV[2] and string.sub(guard, 2, 41) < ARGV[3] then
    if ARGV[5] == '' then
      redis.call('DEL', key, companion)
    else
      redis.call('HDEL', KEYS[1], 'bare')  -- see apply.lua
      redis.call('PEXPIRE', key, ARGV[5])
      redis.call('SET', companion, guard, 'PX', ARGV[5] + ARGV[6])  -- the guard outlives its data
    end
    swept = swept + 1
  end
end
return swept
