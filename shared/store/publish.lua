-- Publishes a snapshot under the next version number, unless its job has published, or must not in this turn.
-- ARGV: manifest, weights, digest, training job id, its turn; the verdict: outcome, policy, margin, accuracy, the live version it was made against, that one's accuracy
-- Returns 'conflict' and the version that is live, where that is not the one that was compared with; else 'done' and the job's entry.
local manifest, tensors, digest, job, turn, outcome, policy, margin, accuracy, compared, live_accuracy = unpack(ARGV)

local entry = redis.call('HGET', jobs, job)
if entry and (struck_turn(entry) or tonumber(turn)) >= tonumber(turn) then
  return { 'done', entry }
end
local live = live_version()
if policy == 'if_better' and live ~= tonumber(compared) then
  return { 'conflict', live }
end
if outcome == 'promoted' and exists(hold) then
  outcome = 'held'
end

local version = redis.call('INCR', counter)
local verdict = table.concat({ outcome, policy, margin, accuracy, string.format('%.0f', live), live_accuracy }, ' ')
entry = string.format('%.0f %s %s', version, digest, verdict)
redis.call('HSET', manifests, version, manifest)
redis.call('HSET', weights, version, tensors)
redis.call('HSET', records, version, string.format('%s %s %d', digest, now_ms(), #tensors))
redis.call('HSET', verdicts, version, verdict)
redis.call('ZADD', versions, version, version)
redis.call('HSET', jobs, job, entry)
redis.call('HSET', aliases, 'latest', version)
if outcome == 'promoted' then
  make_live(version, 'published', 'job ' .. job, '')
end
wake(version)
return { 'done', entry }
