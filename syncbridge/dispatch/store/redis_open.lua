-- Takes the queue for one server, and creates it where there is none.
--
-- KEYS[1]  <prefix>meta   hash: format, queue_id, next_id, owner (token of the server that opened it last), seq (number of
--                         the last commit), last (highest job id ever added)
-- KEYS[2]  <prefix>lock   string: the owner's token, while the owner lives; expires
--
-- ARGV[1]  token          of the server that opens
-- ARGV[2]  lease          ms
-- ARGV[3]  dead           token of an owner that is gone although its lock is still there, or ""
-- ARGV[4]  format         the layout this version writes
-- ARGV[5]  queue id       for a new queue
-- ARGV[6]  next id        no lower than this
-- ARGV[7]  lost           "1": the queue lost commits, so it becomes another queue: it gets the id of ARGV[5]
--
-- Reply: {"OK", queue_id, next_id, seq}, {"BUSY", owner's token, ms to the end of its lease} or {"FORMAT", found}.

local meta, lock, token = KEYS[1], KEYS[2], ARGV[1]
local holder = redis.call('GET', lock)
if holder and holder ~= ARGV[3] then return {'BUSY', holder, redis.call('PTTL', lock)} end
local format = redis.call('HGET', meta, 'format')
if format and format ~= ARGV[4] then return {'FORMAT', format} end
if not format then
  redis.call('HSET', meta, 'format', ARGV[4], 'queue_id', ARGV[5], 'next_id', '1', 'seq', '0', 'last', '0')
elseif ARGV[7] == '1' then
  redis.call('HSET', meta, 'queue_id', ARGV[5])
end
if tonumber(redis.call('HGET', meta, 'next_id')) < tonumber(ARGV[6]) then
  redis.call('HSET', meta, 'next_id', ARGV[6])
end
redis.call('HSET', meta, 'owner', token)
redis.call('SET', lock, token, 'PX', ARGV[2])
local found = redis.call('HMGET', meta, 'queue_id', 'next_id', 'seq')
return {'OK', found[1], found[2], found[3]}
