-- Asks whoever runs a job, now or later, to stop. Returns 0 where the job has ended, else 1.
-- KEYS: job
local state = redis.call('HGET', KEYS[1], 'state')
if state ~= 'queued' and state ~= 'running' then
  return 0
end
redis.call('HSET', KEYS[1], 'cancel', 1)
return 1
