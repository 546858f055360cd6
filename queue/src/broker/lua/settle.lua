-- What became of taken jobs. ARGV, repeated: what, entry, argument. An entry that is not taken any more is
-- another worker's by now.
-- d: done. b: back to the front (argument: the entry from now on). l: later (the delay in ms, a space, and the
-- entry from now on). x: dropped, waits for its lease. u: cannot be read.
local done, ready, time, is_sooner = {}, 0, nil, false
local has_members = redis.call('EXISTS', P .. 'members') == 1
for at = 1, #ARGV, 3 do
  local what, entry, argument = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local is_taken = (what ~= 'd' or has_members) and redis.call('ZSCORE', P .. 'taken', entry)
  if what == 'd' then
    done[#done + 1] = entry
  elseif what ~= 'x' and is_taken then
    if what == 'b' then
      ready = ready + push_front(argument, 'taken')
    elseif what == 'l' then
      local delay, later = string.match(argument, '^(%d+) (.*)$')
      time = time or now()
      redis.call('ZADD', P .. 'delayed', whole(math.ceil(time + delay)), later)
      is_sooner = is_sooner or redis.call('ZRANGE', P .. 'delayed', 0, 0)[1] == later
    else
      dead(entry, 'taken')
    end
    redis.call('ZREM', P .. 'taken', entry)
  end
  if has_members and is_taken then ready = ready + leave(entry) end
end
if #done > 0 then redis.call('ZREM', P .. 'taken', unpack(done)) end
ring(ready)
if is_sooner then redis.call('PUBLISH', P .. 'hints', '- t') end
