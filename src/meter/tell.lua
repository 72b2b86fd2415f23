-- Adds what a node counted by itself. KEYS: one. ARGV: T period then age and tokens of each, or
-- P period then age and id of each. Times in microseconds.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local key, period = KEYS[1], tonumber(ARGV[2])
for n = 3, #ARGV, 2 do
  local at = now - tonumber(ARGV[n])
  if ARGV[1] == 'T' then
    local slot = math.floor(at / math.floor(period / 60))
    redis.call('HINCRBY', key, string.format('%.0f', slot), ARGV[n + 1])
  else
    redis.call('ZADD', key, 'NX', string.format('%.0f', at), ARGV[n + 1])
  end
end
redis.call('EXPIRE', key, ARGV[1] == 'T' and math.ceil(period * 62 / 60 / 1000000) or 86400)
return { 1 }
