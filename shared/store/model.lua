-- What every script on a model begins with: its keys by name, and what more than one of them does.
-- KEYS: as in ModelKeys.in_order; a script that changes has its receipt behind them
local counter, versions, records, manifests, weights, verdicts, annotations, aliases, revision, revisions, previous, hold, rollout, history, jobs, events, receipt = unpack(KEYS)

local FORMERLY_LIVE, CHANGES, EVENTS = 100, 10000, 1000

local function exists(key)
  return redis.call('EXISTS', key) == 1
end

local function now_ms()
  local now = redis.call('TIME')
  return string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000))
end

local function live_version()
  return tonumber(redis.call('HGET', aliases, 'live') or 0) or 0
end

-- What an alias has for an etag: '0' where there is no such alias, and the version where an earlier build pointed it.
local function etag_of(alias)
  local version = redis.call('HGET', aliases, alias)
  if not version then
    return '0'
  end
  return redis.call('HGET', revisions, alias) or 'v' .. version
end

-- The refusal of a change whose etag is not what the alias has; nothing where it is, or where none was given.
local function stale(alias, etag)
  if etag ~= '' and etag ~= etag_of(alias) then
    return { 'stale', etag_of(alias), redis.call('HGET', aliases, alias) }
  end
end

-- The refusal of a change whose etag is not what the rollout has, which is '0' where there is none; nothing as above.
local function stale_rollout(etag)
  if etag ~= '' and etag ~= (redis.call('HGET', rollout, 'revision') or '0') then
    return { 'stale_rollout', redis.call('HGETALL', rollout) }
  end
end

-- Whether a version is what the rollout tries.
local function is_tried(version)
  return tonumber(redis.call('HGET', rollout, 'version') or 0) == tonumber(version)
end

-- Wakes the watchers, who then read the rest.
local function wake(version)
  redis.call('XADD', events, 'MAXLEN', '~', EVENTS, '*', 'version', version)
end

local function point(alias, version)
  local number = redis.call('INCR', revision)
  redis.call('HSET', aliases, alias, version)
  redis.call('HSET', revisions, alias, number)
  return number
end

-- Makes a version live, ends its rollout if it has one, and writes it down. A rollback leaves what it comes from behind;
-- all else may be rolled back to.
local function make_live(version, cause, actor, reason)
  if is_tried(version) then
    redis.call('DEL', rollout)
  end
  local before = live_version()
  if before == tonumber(version) then
    return
  end
  local number = point('live', version)
  if cause ~= 'rolled_back' and before ~= 0 then
    redis.call('LPUSH', previous, before)
    redis.call('LTRIM', previous, 0, FORMERLY_LIVE - 1)
  end
  redis.call('XADD', history, 'MAXLEN', CHANGES, string.format('%.0f-0', number), 'version', version, 'previous', before,
    'time', now_ms(), 'cause', cause, 'actor', actor, 'reason', reason)
end

local function put_hold(actor, reason)
  redis.call('HSET', hold, 'actor', actor, 'reason', reason, 'time', now_ms())
end

-- The last turn in which a job must not publish, where its entry says so and not what it published.
local function struck_turn(entry)
  return entry and tonumber(string.match(entry, '^0 (%d+)$'))
end

local function is_pinned(version)
  return redis.call('HGET', annotations, version .. ':pinned') == '1'
end

local function remove(version)
  redis.call('ZREM', versions, version)
  for _, hash in ipairs({ records, manifests, weights, verdicts }) do
    redis.call('HDEL', hash, version)
  end
  redis.call('HDEL', annotations, version .. ':notes', version .. ':labels', version .. ':pinned')
end

-- Forgets the way back over versions that are gone: a rollback must not lead to one, nor to what is live already, nor twice
-- to the same.
local function forget_formerly(gone)
  local kept, above = {}, redis.call('HGET', aliases, 'live')
  for _, formerly in ipairs(redis.call('LRANGE', previous, 0, -1)) do
    if not gone[formerly] and formerly ~= above then
      kept[#kept + 1] = formerly
      above = formerly
    end
  end
  redis.call('DEL', previous)
  if #kept > 0 then
    redis.call('RPUSH', previous, unpack(kept))
  end
end

-- The model as it stands: how many versions, aliases, their revisions, where a rollback leads, hold, rollout.
local function summary()
  return {
    redis.call('ZCARD', versions),
    redis.call('HGETALL', aliases),
    redis.call('HGETALL', revisions),
    redis.call('LINDEX', previous, 0),
    redis.call('HGETALL', hold),
    redis.call('HGETALL', rollout),
  }
end
