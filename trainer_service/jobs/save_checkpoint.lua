-- Makes what has arrived a job's checkpoint, if the job is still this run's. Returns 1 if it is, else 0.
-- KEYS: job, arriving, checkpoint
-- ARGV: the run's turn
local job, arriving, checkpoint = unpack(KEYS)
local found = redis.call('HMGET', job, 'state', 'turn')
if found[1] ~= 'running' or found[2] ~= ARGV[1] then
  redis.call('DEL', arriving)
  return 0
end
redis.call('RENAME', arriving, checkpoint)
redis.call('PERSIST', checkpoint)
return 1
