-- Ends a rollout; its version stays.
-- ARGV: etag of the rollout ('': any)
local etag = ARGV[1]
if not exists(counter) then
  return { 'no_model' }
end
local refusal = stale_rollout(etag)
if refusal then
  return refusal
end
if not exists(rollout) then
  return { 'no_rollout' }
end
redis.call('DEL', rollout)
wake(0)
return { 'done', summary() }
