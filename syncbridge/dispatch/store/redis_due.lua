-- Scheduled or dead jobs of all functions in the order of (due, id).
--
-- KEYS[1]  <prefix>scheduled or <prefix>dead   sorted set: due, job id, 8 bytes each
-- KEYS[2]  <prefix>head
-- KEYS[3]  <prefix>payload
-- ARGV[1]  after      entries above this one
-- ARGV[2]  limit      so many
--
-- Reply: for each job its due (8 bytes), its id, its head or false, and the bytes of its payload. Writes nothing.

local reply = {}
for _, entry in ipairs(redis.call('ZRANGEBYLEX', KEYS[1], '(' .. ARGV[1], '+', 'LIMIT', 0, ARGV[2])) do
  local id = string.format('%.0f', struct.unpack('>I8', entry, 9))
  local n = #reply
  reply[n + 1] = string.sub(entry, 1, 8)
  reply[n + 2] = id
  reply[n + 3] = redis.call('HGET', KEYS[2], id)
  reply[n + 4] = redis.call('HSTRLEN', KEYS[3], id)
end
return reply
