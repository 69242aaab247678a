-- How many hashes differ from the rows that benchmarks/tools/numbered.py had its source make. Writes nothing.
--
-- KEYS     none: the names are made here, on one Redis
-- ARGV[1]  what names begin with, before the row's id
-- ARGV[2]  first id
-- ARGV[3]  last id
local different = 0
for id = tonumber(ARGV[2]), tonumber(ARGV[3]) do
  local text = string.format('%d', id)
  local found = redis.call('HMGET', ARGV[1] .. text, 'id', 'k', 'c')
  local k = string.format('%d', id * 7919 % 100000)
  if found[1] ~= text or found[2] ~= k or found[3] ~= 'row ' .. string.rep(text, 5) then different = different + 1 end
end
return different
