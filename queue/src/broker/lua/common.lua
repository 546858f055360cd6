-- Goes before each of the other scripts. KEYS[1] is what all keys of the queue begin with.
local P = KEYS[1]
local PRIORITIES = 3
local MAX_TOKENS = 16
local MAX_DEAD = 1000

-- A script that fails half-way is not undone. So keys of another kind are found before anything is changed,
-- and below, what is moved is put to its new place before it is taken from the old one.
redis.call('ZCARD', P .. 'taken')
redis.call('ZCARD', P .. 'delayed')
redis.call('HLEN', P .. 'ready')
redis.call('HLEN', P .. 'parked')
redis.call('HLEN', P .. 'members')
redis.call('LLEN', P .. 'bell')
redis.call('XLEN', P .. 'dead')

-- Milliseconds since 1970 by the clock of Redis, with a fraction.
local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + time[2] / 1000
end

-- Large numbers must not be written with an exponent.
local function whole(number)
  return string.format('%.0f', number)
end

local function dead(entry, place)
  redis.call('XADD', P .. 'dead', 'MAXLEN', MAX_DEAD, '*', 'entry', entry, 'place', place)
end

-- id, deliveries, rest, priority; nothing when the entry cannot be read.
local function parse(entry)
  local id, deliveries, rest, priority =
    string.match(entry, '^(%S+) (%d+) (([0-3]) %-?%d+ %-?%d+ .*)$')
  return id, deliveries, rest, priority
end

-- Wakes up to so many of those that sleep.
local function ring(count)
  if count <= 0 then return end
  local missing = math.min(count, MAX_TOKENS) - redis.call('LLEN', P .. 'bell')
  for _ = 1, missing do redis.call('RPUSH', P .. 'bell', '1') end
end

local function push_back(priority, submitter, entry)
  if redis.call('RPUSH', P .. 'jobs:' .. priority .. ':' .. submitter, entry) == 1 then
    redis.call('RPUSH', P .. 'ring:' .. priority, submitter)
  end
  redis.call('HINCRBY', P .. 'ready', priority, 1)
end

-- Before all that were never given out. Whether there is one job more.
local function push_front(entry, place)
  local id, _, _, priority = parse(entry)
  if not id then
    dead(entry, place)
    return 0
  end
  redis.call('RPUSH', P .. 'front:' .. priority, entry)
  redis.call('HINCRBY', P .. 'ready', priority, 1)
  return 1
end

-- What stays the same in an entry from delivery to delivery.
local function id_of(entry)
  return string.match(entry, '^%S*')
end

-- Gives a free place in a group to a job that is parked before it. It has the place from now on, so that the
-- next one gets it also when the job is settled without having entered. How many are ready by that.
local function unpark(group)
  for _ = 1, 100 do
    local entry = redis.call('LINDEX', P .. 'parked:' .. group, 0)
    if not entry then return 0 end
    local ready = push_front(entry, 'parked')
    if ready > 0 then
      redis.call('SADD', P .. 'group:' .. group, id_of(entry))
      redis.call('HSET', P .. 'members', id_of(entry), group)
    end
    redis.call('LPOP', P .. 'parked:' .. group)
    if redis.call('HINCRBY', P .. 'parked', group, -1) <= 0 then
      redis.call('HDEL', P .. 'parked', group)
    end
    if ready > 0 then return ready end
  end
  return 0
end

-- The job has no place in a group any more. How many are ready by that.
local function leave(entry)
  local id = id_of(entry)
  local group = redis.call('HGET', P .. 'members', id)
  if not group then return 0 end
  redis.call('SREM', P .. 'group:' .. group, id)
  redis.call('HDEL', P .. 'members', id)
  return unpark(group)
end
