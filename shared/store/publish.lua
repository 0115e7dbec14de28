-- Publishes a snapshot under the next version number, or returns the number it already has.
-- KEYS: counter, versions, records, manifests, weights, aliases, jobs, events (all of one model)
-- ARGV: manifest, weights, digest, training job id, '1' to make it live
local counter, versions, records, manifests, weights, aliases, jobs, events = unpack(KEYS)
local manifest, tensors, digest, job, promote = unpack(ARGV)

local published = redis.call('HGET', jobs, job)
if published then
  return tonumber(published)
end

local now = redis.call('TIME')
local version = redis.call('INCR', counter)
local publish_ms = now[1] * 1000 + math.floor(now[2] / 1000)
redis.call('HSET', manifests, version, manifest)
redis.call('HSET', weights, version, tensors)
redis.call('HSET', records, version, string.format('%s %.0f %d', digest, publish_ms, #tensors))
redis.call('ZADD', versions, version, version)
redis.call('HSET', jobs, job, version)
redis.call('HSET', aliases, 'latest', version)
if promote == '1' then
  redis.call('HSET', aliases, 'live', version)
end
redis.call('XADD', events, 'MAXLEN', '~', 1000, '*', 'version', version, 'digest', digest)
return version
