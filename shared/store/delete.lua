-- Removes a version that nothing needs.
-- ARGV: version
-- Returns 'in_use' with whether it is pinned and its aliases, where something does.
local version = ARGV[1]
if redis.call('HEXISTS', records, version) == 0 then
  return { 'no_version' }
end
local pointed, uses = redis.call('HGETALL', aliases), {}
for i = 1, #pointed, 2 do
  if pointed[i + 1] == version and pointed[i] ~= 'latest' then
    uses[#uses + 1] = pointed[i]
  end
end
if #uses > 0 or is_pinned(version) then
  return { 'in_use', is_pinned(version) and 1 or 0, uses }
end

remove(version)
-- A rollback must not lead to it, nor to what is live already, nor twice to the same.
local kept, above = {}, redis.call('HGET', aliases, 'live')
for _, formerly in ipairs(redis.call('LRANGE', previous, 0, -1)) do
  if formerly ~= version and formerly ~= above then
    kept[#kept + 1] = formerly
    above = formerly
  end
end
redis.call('DEL', previous)
if #kept > 0 then
  redis.call('RPUSH', previous, unpack(kept))
end
if redis.call('HGET', aliases, 'latest') == version then
  local highest = redis.call('ZREVRANGE', versions, 0, 0)[1]
  if highest then
    redis.call('HSET', aliases, 'latest', highest)
  else
    redis.call('HDEL', aliases, 'latest')
  end
end
wake(version)
return { 'done' }
