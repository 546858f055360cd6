-- Offers jobs. ARGV, repeated: priority, submitter, delay in ms (0: none), count, entries.
local at, added, time, is_sooner = 1, 0, nil, false
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
    if length == count then redis.call('RPUSH', P .. 'ring:' .. priority, submitter) end
    redis.call('HINCRBY', P .. 'ready', priority, count)
    added = added + count
  end
  at = last + 1
end
ring(added)
-- Who watches the time must know of what is due before all else.
if is_sooner then redis.call('PUBLISH', P .. 'hints', '- t') end
