-- Forbids a training job to publish in this turn of it and in those before. Returns its entry where it has published already.
-- ARGV: training job id, turn
local job, turn = ARGV[1], tonumber(ARGV[2])
local entry = redis.call('HGET', jobs, job)
local struck = struck_turn(entry)
if entry and not struck then
  return entry
end
if turn > (struck or 0) then
  redis.call('HSET', jobs, job, string.format('0 %.0f', turn))
end
return false
