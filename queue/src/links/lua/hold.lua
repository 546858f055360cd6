-- What a process has, had, and has ended. KEYS[1] is what the keys of places begin with, KEYS[2] the hash of hosts.
-- ARGV: process, lease in ms, seconds of tombs, offer; then three times a count and so many ids: held, gone, ended.
-- Answers the held ones that another has.
local own, lease, tomb = ARGV[1], ARGV[2], ARGV[3]
local lost = {}
local at = 5

local function ids(what)
  local count = tonumber(ARGV[at])
  for i = at + 1, at + count do
    what(ARGV[i], KEYS[1] .. ARGV[i])
  end
  at = at + count + 1
end

ids(function(id, key)
  local holder = redis.call('GET', key)
  if not holder or holder == own then
    redis.call('SET', key, own, 'PX', lease)
  else
    lost[#lost + 1] = id
  end
end)
ids(function(_, key)
  if redis.call('GET', key) == own then
    redis.call('DEL', key)
  end
end)
ids(function(_, key)
  local holder = redis.call('GET', key)
  if not holder or holder == own then
    redis.call('SET', key, '-', 'EX', tomb)
  end
end)
redis.call('HSET', KEYS[2], own, ARGV[4])
return lost
