-- Makes what has arrived a job's checkpoint, if the job is still this run's. Returns 1 if it is, else 0; 1 too where it did so
-- before and only the reply was lost, and where what had arrived is gone: the checkpoint before stays.
-- KEYS: job, arriving, checkpoint
-- ARGV: the run's turn
local job, arriving, checkpoint = unpack(KEYS)
local found = redis.call('HMGET', job, 'state', 'turn')
if found[1] ~= 'running' or found[2] ~= ARGV[1] then
  redis.call('DEL', arriving)
  return 0
end
if redis.call('EXISTS', arriving) == 1 then
  redis.call('RENAME', arriving, checkpoint)
  redis.call('PERSIST', checkpoint)
end
return 1
