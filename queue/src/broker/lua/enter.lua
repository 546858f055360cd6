-- A place in a group, or the job is parked. ARGV: entry, group, how many may be in it, the entry from now on
-- when it is parked. Answers 1: entered, 0: parked or another worker's.
local entry, group, max = ARGV[1], ARGV[2], tonumber(ARGV[3])
if not redis.call('ZSCORE', P .. 'taken', entry) then return 0 end
local id = id_of(entry)
local members, ready = P .. 'group:' .. group, 0
if redis.call('HGET', P .. 'members', id) ~= group then
  ready = leave(entry)
  if redis.call('SCARD', members) >= max then
    redis.call('RPUSH', P .. 'parked:' .. group, ARGV[4])
    redis.call('ZREM', P .. 'taken', entry)
    redis.call('HINCRBY', P .. 'parked', group, 1)
    ring(ready)
    return 0
  end
  redis.call('SADD', members, id)
  redis.call('HSET', P .. 'members', id, group)
end
-- There may be room for more when the limit was raised.
local count = redis.call('SCARD', members)
for _ = count + 1, math.min(max, count + 100) do
  local unparked = unpark(group)
  if unparked == 0 then break end
  ready = ready + unparked
end
ring(ready)
return 1
