-- Lets happen what is due: delayed jobs get ready, jobs whose lease has ended go to the front. ARGV: how many
-- of each at most. Answers with the ms until something is due; -1: nothing is.
local limit, time = tonumber(ARGV[1]), now()
local score, ready, is_more = whole(math.floor(time)), 0, false

local due = redis.call('ZRANGEBYSCORE', P .. 'delayed', '-inf', score, 'LIMIT', 0, limit)
for _, entry in ipairs(due) do
  local id, _, rest, priority = parse(entry)
  if id then
    push_back(priority, string.match(rest, '^%S+ %S+ %S+ (.*)$'), entry)
    ready = ready + 1
  else
    dead(entry, 'delayed')
  end
  redis.call('ZREM', P .. 'delayed', entry)
end

local lost = redis.call('ZRANGEBYSCORE', P .. 'taken', '-inf', score, 'LIMIT', 0, limit)
for _, entry in ipairs(lost) do
  ready = ready + push_front(entry, 'taken') + leave(entry)
  redis.call('ZREM', P .. 'taken', entry)
end
ring(ready)

if #due == limit or #lost == limit then return 0 end
local next = -1
for _, key in ipairs({ 'delayed', 'taken' }) do
  local head = redis.call('ZRANGE', P .. key, 0, 0, 'WITHSCORES')
  if head[2] then
    local left = math.max(math.ceil(head[2] - time), 0)
    if next < 0 or left < next then next = left end
  end
end
return next
