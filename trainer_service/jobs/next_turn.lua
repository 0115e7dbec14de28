-- Gives a waiting job another turn, so that who took the one before and vanished can no longer begin it. Returns 1 if it did.
-- KEYS: job
-- ARGV: the turn it has
local found = redis.call('HMGET', KEYS[1], 'state', 'turn')
if found[1] ~= 'queued' or found[2] ~= ARGV[1] then
  return 0
end
redis.call('HINCRBY', KEYS[1], 'turn', 1)
return 1
