-- What every place holds.
--
-- KEYS[1]  <prefix>places   hash: key of a place -> payload bytes
--
-- Reply: for each place its key, its jobs, their payload bytes, the highest id. Writes nothing.

local reply = {}
local places = redis.call('HGETALL', KEYS[1])
for i = 1, #places, 2 do
  local last = redis.call('ZREVRANGE', places[i], 0, 0)
  if last[1] then
    local n = #reply
    reply[n + 1] = places[i]
    reply[n + 2] = redis.call('ZCARD', places[i])
    reply[n + 3] = places[i + 1]
    reply[n + 4] = last[1]
  end
end
return reply
