-- Puts a hold on a model, or lifts it.
-- ARGV: '1' to hold, actor, reason
local held, actor, reason = unpack(ARGV)
if not exists(counter) then
  return { 'no_model' }
end
if held == '1' then
  put_hold(actor, reason)
else
  redis.call('DEL', hold)
end
wake(0)
return { 'done', summary() }
