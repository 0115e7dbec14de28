-- Replaces a job if it is in the state and the turn expected, and appends the event to its history. A job that ends leaves
-- its model's line, and the next one in it has its turn. A job is taken by a worker only at the head of its line.
-- Returns 1 if it did, else 0; then the job that stands at the head of the line now, and its turn, or two empty words.
-- 1 too where it did so before and only the reply was lost, which shows by the job being the same already.
-- KEYS: job, events, line, heads, unended, ended, checkpoint
-- ARGV: job id, model, expected state, expected turn ('': any), new state, new turn ('': the same), serialized job, event, end time in ms ('': it has not ended), prefix of jobs' keys
local job, events, line, heads, unended, ended, checkpoint = unpack(KEYS)
local id, model, expected, expected_turn, state, turn, serialized, event, end_time, prefix = unpack(ARGV)

local function reply(done)
  local head = redis.call('HGET', heads, model)
  return { done, head or '', head and redis.call('HGET', prefix .. head, 'turn') or '' }
end

local found = redis.call('HMGET', job, 'state', 'turn', 'job')
if found[1] ~= expected or (expected_turn ~= '' and found[2] ~= expected_turn) then
  return reply(found[1] == state and found[3] == serialized and 1 or 0)
end
if expected == 'queued' and state == 'running' and redis.call('HGET', heads, model) ~= id then
  return reply(0)
end
redis.call('HSET', job, 'state', state, 'job', serialized)
if turn ~= '' then
  redis.call('HSET', job, 'turn', turn)
end
redis.call('XADD', events, '*', 'event', event)
if end_time ~= '' then
  redis.call('DEL', checkpoint)
  redis.call('HDEL', job, 'beat', 'cancel')
  redis.call('ZREM', unended, id)
  redis.call('ZREM', line, id)
  redis.call('ZADD', ended, end_time, id)
  if redis.call('HGET', heads, model) == id then
    local following = redis.call('ZRANGE', line, 0, 0)[1]
    if following then
      redis.call('HSET', heads, model, following)
    else
      redis.call('HDEL', heads, model)
    end
  end
end
return reply(1)
