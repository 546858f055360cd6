-- Takes jobs in their order. ARGV: how many at most, lease in ms. Answers with the entries as they are kept
-- while they are taken: with this delivery counted.
local want, lease = tonumber(ARGV[1]), tonumber(ARGV[2])
local out, budget = {}, want + 100

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

local is_more = false
for priority = 0, PRIORITIES do
  local front, turns = P .. 'front:' .. priority, P .. 'ring:' .. priority
  local removed = 0
  while #out < want and budget > 0 do
    local batch = redis.call('LPOP', front, want - #out)
    if not batch then break end
    removed = removed + give(batch)
  end
  while #out < want and budget > 0 do
    local submitters = redis.call('LLEN', turns)
    if submitters == 0 then break end
    local submitter = redis.call('LPOP', turns)
    local list = P .. 'jobs:' .. priority .. ':' .. submitter
    local batch = redis.call('LPOP', list, submitters == 1 and want - #out or 1)
    budget = budget - 1
    if batch then
      removed = removed + give(batch)
      if redis.call('EXISTS', list) == 1 then redis.call('RPUSH', turns, submitter) end
    end
  end
  if removed > 0 then redis.call('HINCRBY', P .. 'ready', priority, -removed) end
  if redis.call('EXISTS', front, turns) > 0 then
    is_more = true
    break
  end
end

-- A token is there exactly as long as there are jobs, so that nobody sleeps beside them.
if is_more then ring(1) else redis.call('DEL', P .. 'bell', P .. 'ready') end

if #out > 0 then
  local score, pairs = whole(math.ceil(now() + lease)), {}
  for _, entry in ipairs(out) do
    pairs[#pairs + 1] = score
    pairs[#pairs + 1] = entry
  end
  redis.call('ZADD', P .. 'taken', unpack(pairs))
end
return out
