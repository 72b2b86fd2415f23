-- Gives back what was taken. KEYS: one for each charge. ARGV, for each: T tokens, or P id.
local at = 0
local function word() at = at + 1; return ARGV[at] end
for _, key in ipairs(KEYS) do
  if word() == 'P' then
    redis.call('ZREM', key, word())
  else
    local tokens = tonumber(word())
    local all, slots = redis.call('HGETALL', key), {}
    for n = 1, #all, 2 do
      table.insert(slots, { tonumber(all[n]), tonumber(all[n + 1]), all[n] })
    end
    table.sort(slots, function(a, b) return a[1] > b[1] end)
    for _, slot in ipairs(slots) do
      local back = math.min(tokens, slot[2])
      tokens = tokens - back
      if back == slot[2] then redis.call('HDEL', key, slot[3])
      elseif back > 0 then redis.call('HINCRBY', key, slot[3], -back) end
    end
  end
end
return { 1 }
