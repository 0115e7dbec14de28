-- Removes a schedule. Returns 1, or 0 if there is none of the name.
-- KEYS: schedules, due
-- ARGV: name
local schedules, due = unpack(KEYS)
redis.call('ZREM', due, ARGV[1])
return redis.call('HDEL', schedules, ARGV[1])
