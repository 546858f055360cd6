-- Offers jobs. ARGV, repeated: priority, submitter, delay in ms (0: none), count, entries.
local at, added, time, is_sooner = 1, 0, nil, false
local ready, turns = {}, {}
while at <= #ARGV do
  local priority, submitter = ARGV[at], ARGV[at + 1]
  local delay, count = tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  local first, last = at + 4, at + 3 + count
  if delay > 0 then
    time = time or now()
    for i = first, last do
      redis.call('ZADD', P .. 'delayed', whole(math.ceil(time + delay)), ARGV[i])
    end
    local head = redis.call('ZRANGE', P .. 'delayed', 0, 0)[1]
    for i = first, last do is_sooner = is_sooner or head == ARGV[i] end
  else
    local length = redis.call('RPUSH', P .. 'jobs:' .. priority .. ':' .. submitter,
      unpack(ARGV, first, last))
    ready[priority] = (ready[priority] or 0) + count
    turns[priority] = turns[priority] or {}
    if length == count then table.insert(turns[priority], submitter) end
    added = added + count
  end
  at = last + 1
end
for priority, count in pairs(ready) do
  redis.call('HINCRBY', P .. 'ready', priority, count)
  if #turns[priority] > 0 then redis.call('RPUSH', P .. 'ring:' .. priority, unpack(turns[priority])) end
end
ring(added)
-- Who watches the time must know of what is due before all else.
if is_sooner then redis.call('PUBLISH', P .. 'hints', '- t') end
