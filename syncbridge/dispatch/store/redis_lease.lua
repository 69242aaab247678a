-- Prolongs the owner's lock, or gives it up.
--
-- KEYS[1]  <prefix>meta
-- KEYS[2]  <prefix>lock
-- ARGV[1]  token
-- ARGV[2]  lease, ms; "0" gives it up
--
-- Reply: 1, or 0 when another server owns the queue (or nobody: it is gone).

if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] then return 0 end
if ARGV[2] ~= '0' then
  -- Also where it had expired: nobody opened the queue since.
  redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
elseif redis.call('GET', KEYS[2]) == ARGV[1] then
  redis.call('DEL', KEYS[2])
end
return 1
