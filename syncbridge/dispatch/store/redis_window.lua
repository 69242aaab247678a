-- The jobs of one place in the order of their ids.
--
-- KEYS[1]  place      sorted set of job ids
-- KEYS[2]  <prefix>head
-- KEYS[3]  <prefix>payload
-- ARGV[1]  after      ids above this one
-- ARGV[2]  through    and up to this one
-- ARGV[3]  limit      so many
-- ARGV[4]  inline     payload bytes up to which the payload comes along
--
-- Reply: for each job its id, its head or false, the bytes of its payload, and the payload or false. Writes nothing.

local reply = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. ARGV[1], ARGV[2], 'LIMIT', 0, ARGV[3])) do
  local size = redis.call('HSTRLEN', KEYS[3], id)
  local n = #reply
  reply[n + 1] = id
  reply[n + 2] = redis.call('HGET', KEYS[2], id)
  reply[n + 3] = size
  reply[n + 4] = size <= tonumber(ARGV[4]) and redis.call('HGET', KEYS[3], id)
end
return reply
