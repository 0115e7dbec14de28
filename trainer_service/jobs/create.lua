-- Stores a new job, or returns the id of the one that the same request created before.
-- KEYS: index, job, events, request
-- ARGV: job id, state, serialized job, its event, creation time in µs, seconds to remember the request id (0: the client gave none)
local index, job, events, request = unpack(KEYS)
local id, state, serialized, event, created, remember = unpack(ARGV)
if tonumber(remember) > 0 then
  local known = redis.call('GET', request)
  if known then
    return known
  end
  redis.call('SET', request, id, 'EX', remember)
end
redis.call('HSET', job, 'state', state, 'job', serialized)
redis.call('XADD', events, '*', 'event', event)
redis.call('ZADD', index, created, id)
return id
