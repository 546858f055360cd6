-- Prolongs leases. ARGV: lease in ms, entries. What is not taken any more stays so.
local score, pairs = whole(math.ceil(now() + ARGV[1])), {}
for at = 2, #ARGV do
  pairs[#pairs + 1] = score
  pairs[#pairs + 1] = ARGV[at]
end
redis.call('ZADD', P .. 'taken', 'XX', unpack(pairs))
