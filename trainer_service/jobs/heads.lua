-- The job at the head of each model's line: its id, state, turn, heartbeats so far, and whether it shall stop.
-- KEYS: heads
-- ARGV: prefix of jobs' keys
local found = {}
for _, id in ipairs(redis.call('HVALS', KEYS[1])) do
  local job = redis.call('HMGET', ARGV[1] .. id, 'state', 'turn', 'beat', 'cancel')
  found[#found + 1] = { id, job[1] or '', job[2] or '', job[3] or '', job[4] and 1 or 0 }
end
return found
