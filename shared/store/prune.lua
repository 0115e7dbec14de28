-- Removes some of the old versions that nothing needs, or says which it would.
-- ARGV: how many of the newest to keep, the version to go on after, the most to look at, the most to remove, '1' to only say
-- Returns which versions, the size of their weights together, the last version looked at ('': none are left), and how many versions are stored.
local keep, after, scan, most, dry_run = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5] == '1'
if not exists(counter) then
  return { 'no_model' }
end
local needed = {}
for _, version in ipairs(redis.call('HVALS', aliases)) do
  needed[version] = true
end
needed[redis.call('HGET', rollout, 'version') or ''] = true
needed[redis.call('LINDEX', previous, 0) or ''] = true -- where a rollback leads; not the whole way back, which is long

local gone, is_gone, bytes, last = {}, {}, 0, ''
local oldest_kept = redis.call('ZREVRANGE', versions, keep - 1, keep - 1)[1]
if oldest_kept then
  local old = redis.call('ZRANGEBYSCORE', versions, '(' .. after, '(' .. oldest_kept, 'LIMIT', 0, scan)
  for i, version in ipairs(old) do
    if not needed[version] and not is_pinned(version) then
      gone[#gone + 1] = tonumber(version)
      is_gone[version] = true
      bytes = bytes + tonumber(string.match(redis.call('HGET', records, version), '%d+$'))
      if not dry_run then
        remove(version)
      end
    end
    if #gone == most or i == scan then
      last = version
      break
    end
  end
end
if #gone > 0 and not dry_run then
  forget_formerly(is_gone)
  wake(0)
end
return { 'done', gone, bytes, last, redis.call('ZCARD', versions) }
