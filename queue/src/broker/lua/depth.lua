-- How many jobs there are: ready, delayed, taken, parked, dead.
local function sum(key)
  local total = 0
  for _, count in ipairs(redis.call('HVALS', key)) do total = total + (tonumber(count) or 0) end
  return total
end
return {
  sum(P .. 'ready'),
  redis.call('ZCARD', P .. 'delayed'),
  redis.call('ZCARD', P .. 'taken'),
  sum(P .. 'parked'),
  redis.call('XLEN', P .. 'dead'),
}
