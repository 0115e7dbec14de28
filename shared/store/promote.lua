-- Makes a version live and lifts a hold.
-- ARGV: version, etag of 'live' ('': any), actor, reason
local version, etag, actor, reason = unpack(ARGV)
if redis.call('HEXISTS', records, version) == 0 then
  return { 'no_version' }
end
local refusal = stale('live', etag)
if refusal then
  return refusal
end
make_live(version, 'promoted', actor, reason)
redis.call('DEL', hold)
wake(version)
return { 'done', summary() }
