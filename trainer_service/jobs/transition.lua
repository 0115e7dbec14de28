-- Replaces a job if it is in the state expected, and appends the event to its history. Returns 1 if it did, else 0;
-- 1 too where it did so before and only the reply was lost, which shows by the job being the same already.
-- KEYS: job, events
-- ARGV: expected state, new state, serialized job, event
local job, events = unpack(KEYS)
local expected, state, serialized, event = unpack(ARGV)
if redis.call('HGET', job, 'state') ~= expected then
  return redis.call('HGET', job, 'job') == serialized and 1 or 0
end
redis.call('HSET', job, 'state', state, 'job', serialized)
redis.call('XADD', events, '*', 'event', event)
return 1
