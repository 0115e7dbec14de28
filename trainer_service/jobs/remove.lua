-- Removes a job that has ended. Returns 0 where it has not.
-- KEYS: job, events, index, ended
-- ARGV: job id
local job, events, index, ended = unpack(KEYS)
local state = redis.call('HGET', job, 'state')
if state == 'queued' or state == 'running' then
  return 0
end
redis.call('DEL', job, events)
redis.call('ZREM', index, ARGV[1])
redis.call('ZREM', ended, ARGV[1])
return 1
