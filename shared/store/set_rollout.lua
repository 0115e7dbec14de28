-- Tries a version on a share of the requests, in the place of the one that is tried, or changes how it is tried.
-- ARGV: version, mode, percent, etag of the rollout ('': any), actor, reason
local version, mode, percent, etag, actor, reason = unpack(ARGV)
if redis.call('HEXISTS', records, version) == 0 then
  return { 'no_version' }
end
local refusal = stale_rollout(etag)
if refusal then
  return refusal
end
local live = live_version()
if live == 0 then
  return { 'no_live' }
end
if live == tonumber(version) then
  return { 'is_live' }
end
local fields = { 'version', version, 'mode', mode, 'percent', percent, 'actor', actor, 'reason', reason }
local is_same = true
for i = 1, #fields, 2 do
  is_same = is_same and redis.call('HGET', rollout, fields[i]) == fields[i + 1]
end
if not is_same then
  local now = now_ms()
  if not is_tried(version) then
    redis.call('HSET', rollout, 'created', now)
  end
  redis.call('HSET', rollout, 'revision', redis.call('INCR', revision), 'updated', now, unpack(fields))
  wake(version)
end
return { 'done', summary() }
