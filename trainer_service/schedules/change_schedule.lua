-- Replaces a schedule if it is stored as expected. Returns 1 if it did, else 0.
-- KEYS: schedules, due
-- ARGV: name, expected serialized schedule, serialized schedule, when it is due in ms ('' while paused)
local schedules, due = unpack(KEYS)
local name, expected, schedule, next_time = unpack(ARGV)
if redis.call('HGET', schedules, name) ~= expected then
  return 0
end
redis.call('HSET', schedules, name, schedule)
if next_time == '' then
  redis.call('ZREM', due, name)
else
  redis.call('ZADD', due, next_time, name)
end
return 1
