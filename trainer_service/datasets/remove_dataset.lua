-- Takes a name from its data, and the data away with its last name. Returns 1, or 0 if the name has other data by now.
-- KEYS: digests, records, data, names
-- ARGV: name, digest
local digests, records, data, names = unpack(KEYS)
local name, digest = unpack(ARGV)
if redis.call('HGET', digests, name) ~= digest then
  return 0
end
redis.call('HDEL', digests, name)
redis.call('HDEL', records, name)
redis.call('SREM', names, name)
if redis.call('SCARD', names) == 0 then
  redis.call('UNLINK', data)
end
return 1
