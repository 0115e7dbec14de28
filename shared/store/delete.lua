-- Removes a version that nothing needs.
-- ARGV: version
-- Returns 'in_use' with whether it is pinned, whether a rollout tries it, and its aliases, where something does.
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
if #uses > 0 or is_pinned(version) or is_tried(version) then
  return { 'in_use', is_pinned(version) and 1 or 0, is_tried(version) and 1 or 0, uses }
end

remove(version)
forget_formerly({ [version] = true })
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
