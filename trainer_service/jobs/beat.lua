-- Notes that a job's run is alive. Returns 0, or 1 where somebody asked for the job to stop, or -1 where it is no longer
-- this run's: it has ended, or another worker has it.
-- KEYS: job
-- ARGV: the run's turn
local found = redis.call('HMGET', KEYS[1], 'state', 'turn', 'cancel')
if found[1] ~= 'running' or found[2] ~= ARGV[1] then
  return -1
end
redis.call('HINCRBY', KEYS[1], 'beat', 1)
return found[3] and 1 or 0
