-- Makes the version live that was live before, and puts a hold on the model.
-- ARGV: etag of 'live' ('': any), actor, reason
local etag, actor, reason = unpack(ARGV)
if not exists(counter) then
  return { 'no_model' }
end
local refusal = stale('live', etag)
if refusal then
  return refusal
end
local version = redis.call('LPOP', previous)
if not version then
  return { 'no_previous' }
end
make_live(version, 'rolled_back', actor, reason)
put_hold(actor, reason)
wake(version)
return { 'done', summary() }
