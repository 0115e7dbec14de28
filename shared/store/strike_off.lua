-- Forbids a training job to publish from now on. Returns its entry where it has published already.
-- ARGV: training job id
if redis.call('HSETNX', jobs, ARGV[1], 0) == 1 then
  return false
end
local entry = redis.call('HGET', jobs, ARGV[1])
return entry ~= '0' and entry
