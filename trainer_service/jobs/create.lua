-- Stores a new job at the end of its model's line, or returns the id of the one that the same request created before.
-- Returns an empty id where too many jobs have not ended.
-- KEYS: index, job, events, request, line, heads, unended
-- ARGV: job id, state, serialized job, its event, creation time in µs, seconds to remember the request id (0: the client gave none), model, most jobs that may not have ended, prefix of jobs' keys
local index, job, events, request, line, heads, unended = unpack(KEYS)
local id, state, serialized, event, created, remember, model, limit, prefix = unpack(ARGV)
if redis.call('EXISTS', job) == 1 then
  return id -- it was created, and only the reply was lost
end
if tonumber(remember) > 0 then
  local known = redis.call('GET', request)
  if known and redis.call('EXISTS', prefix .. known) == 1 then
    return known
  end
end
if redis.call('ZCARD', unended) >= tonumber(limit) then
  return ''
end
if tonumber(remember) > 0 then
  redis.call('SET', request, id, 'EX', remember)
end
-- No two jobs have one time, so that a page of a list can begin after any of them.
local newest = redis.call('ZREVRANGE', index, 0, 0, 'WITHSCORES')[2]
created = string.format('%.0f', math.max(tonumber(created), newest and tonumber(newest) + 1 or 0))
redis.call('HSET', job, 'state', state, 'job', serialized, 'turn', 1)
redis.call('XADD', events, '*', 'event', event)
for _, set in ipairs({ index, unended, line }) do
  redis.call('ZADD', set, created, id)
end
redis.call('HSETNX', heads, model, id)
return id
