-- Takes all charges or none. KEYS: one for each charge. ARGV, for each:
--   T limit period tokens         tokens that come back one by one, a period after they were taken
--   P limit period id past…       a place in a sliding window
--   L period past…                looks at a window
-- past: -1 when nobody read it; else how many, then age and id of each. Times in microseconds.
-- Answers 1 used oldest (of what was looked at; the oldest leaves after so long, or -1),
--         0 index remaining wait (refused by this charge), or 2 index… (windows to be read first).
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local at = 0
local function word() at = at + 1; return ARGV[at] end
local function number() return tonumber(word()) end
local function text(value) return string.format('%.0f', value) end

local charges, unread = {}, {}
for index, key in ipairs(KEYS) do
  local c = { key = key, kind = word(), used = 0 }
  if c.kind ~= 'L' then c.limit = number() end
  c.period = number()
  if c.kind == 'T' then
    c.tokens = number()
    c.slot = math.floor(c.period / 60)
    c.now = math.floor(now / c.slot)
    c.slots = {}
    local all = redis.call('HGETALL', key)
    for n = 1, #all, 2 do
      local slot, count = tonumber(all[n]), tonumber(all[n + 1])
      if slot < c.now - 60 then
        redis.call('HDEL', key, all[n])
      else
        c.used = c.used + count
        table.insert(c.slots, { slot, count })
      end
    end
  else
    if c.kind == 'P' then c.id = word() end
    local past = number()
    for _ = 1, past do
      local age, id = number(), word()
      redis.call('ZADD', key, 'NX', text(now - age), id)
    end
    if past >= 0 then
      redis.call('ZADD', key, '+inf', 'read')
      redis.call('EXPIRE', key, 86400)
    elseif not redis.call('ZSCORE', key, 'read') then
      table.insert(unread, index - 1)
    end
    redis.call('ZREMRANGEBYSCORE', key, '-inf', text(now - c.period))
    c.used = redis.call('ZCARD', key) - 1
  end
  charges[index] = c
end
if #unread > 0 then
  return { 2, unpack(unread) }
end

local function wait_for_tokens(c)
  table.sort(c.slots, function(a, b) return a[1] < b[1] end)
  local missing, wait = c.used + c.tokens - c.limit, c.period
  for _, slot in ipairs(c.slots) do
    missing = missing - slot[2]
    if missing <= 0 then return (slot[1] + 61) * c.slot - now end
  end
  return wait
end

local function wait_for_place(c)
  local rank = c.used - c.limit
  local entry = redis.call('ZRANGE', c.key, rank, rank, 'WITHSCORES')
  local score = tonumber(entry[2])
  if c.limit <= 0 or not score or score == math.huge then return c.period end
  return score + c.period - now
end

local refused
for index, c in ipairs(charges) do
  local wait
  if c.kind == 'T' and c.used + c.tokens > c.limit then wait = wait_for_tokens(c) end
  if c.kind == 'P' and c.used >= c.limit and not redis.call('ZSCORE', c.key, c.id) then
    wait = wait_for_place(c)
  end
  if wait and (not refused or wait > refused[4]) then
    refused = { 0, index - 1, math.max(0, c.limit - c.used), math.max(1, wait) }
  end
end
if refused then return refused end

local answer = { 1 }
for _, c in ipairs(charges) do
  if c.kind == 'T' then
    redis.call('HINCRBY', c.key, text(c.now), c.tokens)
    redis.call('EXPIRE', c.key, math.ceil(c.period * 62 / 60 / 1000000))
  elseif c.kind == 'P' then
    redis.call('ZADD', c.key, 'NX', text(now), c.id)
    redis.call('EXPIRE', c.key, 86400)
  else
    local oldest = redis.call('ZRANGE', c.key, 0, 0, 'WITHSCORES')
    table.insert(answer, c.used)
    table.insert(answer, c.used > 0 and tonumber(oldest[2]) + c.period - now or -1)
  end
end
return answer
