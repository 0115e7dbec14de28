-- Adds a part to data that is arriving, and lets it expire if no other part follows soon: both or neither.
-- KEYS: arriving
-- ARGV: place, part, seconds
local arriving = KEYS[1]
local place, part, seconds = unpack(ARGV)
redis.call('HSET', arriving, place, part)
redis.call('EXPIRE', arriving, seconds)
