-- Stores a schedule if there is none of its name. Returns what the name has then, or '' where too many are stored.
-- KEYS: schedules, due
-- ARGV: name, serialized schedule, when it is due in ms ('' while paused), most schedules
local schedules, due = unpack(KEYS)
local name, schedule, next_time, limit = unpack(ARGV)
local known = redis.call('HGET', schedules, name)
if known then
  return known
end
if redis.call('HLEN', schedules) >= tonumber(limit) then
  return ''
end
redis.call('HSET', schedules, name, schedule)
if next_time ~= '' then
  redis.call('ZADD', due, next_time, name)
end
return schedule
