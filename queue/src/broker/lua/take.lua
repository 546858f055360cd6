-- Takes jobs in their order. ARGV: how many at most, lease in ms. Answers with the entries as they are kept
-- while they are taken, with this delivery counted, after 1 if there are more, and 0 if not.
local want, lease = tonumber(ARGV[1]), tonumber(ARGV[2])
local out, budget = {}, 2 * want + 100

-- Takes from a list; nothing from a key of another kind, so that what was taken before is not lost.
local broken
local function pop(list, count)
  local batch = redis.pcall('LPOP', list, count)
  if batch and batch.err then
    broken = list .. ': ' .. batch.err
    return false
  end
  return batch
end

local function give(entries)
  for _, entry in ipairs(entries) do
    local id, deliveries, rest = parse(entry)
    if id then
      out[#out + 1] = id .. ' ' .. whole(deliveries + 1) .. ' ' .. rest
    else
      dead(entry, 'ready')
    end
  end
  budget = budget - #entries
  return #entries
end

-- What may have jobs, from a priority on.
local function places(priority)
  local keys = {}
  for other = priority, PRIORITIES do
    keys[#keys + 1] = P .. 'front:' .. other
    keys[#keys + 1] = P .. 'ring:' .. other
  end
  return unpack(keys)
end

local is_more = false
for priority = 0, PRIORITIES do
  if redis.call('EXISTS', places(priority)) == 0 then break end
  local front, turns = P .. 'front:' .. priority, P .. 'ring:' .. priority
  local removed = 0
  while #out < want and budget > 0 do
    local batch = pop(front, want - #out)
    if not batch then break end
    removed = removed + give(batch)
  end
  while #out < want and budget > 0 do
    -- So many have their turn at once; one that is alone has all of them.
    local round = pop(turns, want - #out)
    if not round then break end
    local is_alone = #round == 1 and redis.call('EXISTS', turns) == 0
    local count, again = is_alone and want - #out or 1, {}
    for _, submitter in ipairs(round) do
      local list = P .. 'jobs:' .. priority .. ':' .. submitter
      local batch = pop(list, count)
      budget = budget - 1
      if batch then
        removed = removed + give(batch)
        if redis.call('EXISTS', list) == 1 then again[#again + 1] = submitter end
      end
    end
    if #again > 0 then redis.call('RPUSH', turns, unpack(again)) end
  end
  if removed > 0 then redis.call('HINCRBY', P .. 'ready', priority, -removed) end
  if not broken and redis.call('EXISTS', front, turns) > 0 then
    is_more = true
    break
  end
end

-- A token is there exactly as long as there are jobs, so that nobody sleeps beside them.
if is_more or broken and #out == want then
  ring(1)
else
  redis.call('DEL', P .. 'bell')
  if not broken then redis.call('DEL', P .. 'ready') end
end

if #out > 0 then
  local score, pairs = whole(math.ceil(now() + lease)), {}
  for _, entry in ipairs(out) do
    pairs[#pairs + 1] = score
    pairs[#pairs + 1] = entry
  end
  redis.call('ZADD', P .. 'taken', unpack(pairs))
elseif broken then
  -- Who finds only this is to pause.
  return redis.error_reply('ERR ' .. broken)
end
return {(is_more or broken) and 1 or 0, out}
