-- Points an alias other than 'live' to a version, or removes it.
-- ARGV: alias, version (0: remove), etag ('': any), the most aliases that a model may have
-- Returns the etag to give with the next change.
local alias, version, etag, limit = unpack(ARGV)
if not exists(counter) then
  return { 'no_model' }
end
if version ~= '0' and redis.call('HEXISTS', records, version) == 0 then
  return { 'no_version' }
end
local refusal = stale(alias, etag)
if refusal then
  return refusal
end
local before = redis.call('HGET', aliases, alias)
if version == '0' then
  if not before then
    return { 'no_alias' }
  end
  redis.call('HDEL', aliases, alias)
  redis.call('HDEL', revisions, alias)
elseif version ~= before then
  if not before and redis.call('HLEN', aliases) >= tonumber(limit) then
    return { 'too_many_aliases' }
  end
  point(alias, version)
end
wake(version)
return { 'done', etag_of(alias) }
