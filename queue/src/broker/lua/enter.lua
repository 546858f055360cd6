-- A place in a group, or the job is parked. ARGV: entry, group, how many may be in it, the entry from now on
-- when it is parked. Answers 1: entered, 0: parked or another worker's.
local entry, group, max = ARGV[1], ARGV[2], tonumber(ARGV[3])
if not redis.call('ZSCORE', P .. 'taken', entry) then return 0 end
if redis.call('HGET', P .. 'members', entry) == group then return 1 end
local ready, members = leave(entry), P .. 'group:' .. group
local count = redis.call('SCARD', members)
if count >= max then
  redis.call('ZREM', P .. 'taken', entry)
  redis.call('RPUSH', P .. 'parked:' .. group, ARGV[4])
  redis.call('HINCRBY', P .. 'parked', group, 1)
  ring(ready)
  return 0
end
redis.call('SADD', members, entry)
redis.call('HSET', P .. 'members', entry, group)
-- There may be room for more than one when the limit was raised.
if count + 1 < max then ready = ready + unpark(group) end
ring(ready)
return 1
