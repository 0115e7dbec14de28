-- Gives a name to data, which was there before or has arrived just now and then takes the place of what was there.
-- Returns the digest that the name has then, or '' if the data is neither there nor arriving.
-- KEYS: digests, records, data, names, arriving
-- ARGV: name, digest, record
local digests, records, data, names, arriving = unpack(KEYS)
local name, digest, record = unpack(ARGV)
local known = redis.call('HGET', digests, name)
if known and known ~= digest then
  redis.call('UNLINK', arriving)
  return known
end
if redis.call('EXISTS', arriving) == 1 then
  redis.call('UNLINK', data)
  redis.call('RENAME', arriving, data)
  redis.call('PERSIST', data)
elseif redis.call('EXISTS', data) == 0 then
  return ''
end
redis.call('SADD', names, name)
redis.call('HSET', digests, name, digest)
redis.call('HSET', records, name, record)
return digest
