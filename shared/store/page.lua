-- Reads a page of versions without their weights, newest first.
-- ARGV: the score to begin at, the most versions, the most bytes of manifests and annotations (but one version at least)
-- Returns nothing for a model that is not there; else whether older ones are left, the aliases, and for each version its number, record, verdict, notes, labels, pinned and manifest.
local start, count, limit = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
if not exists(counter) then
  return false
end
local numbers = redis.call('ZRANGE', versions, start, '-inf', 'BYSCORE', 'REV', 'LIMIT', 0, count + 1)
local found, more = {}, #numbers > count
if more then
  numbers[#numbers] = nil
end
if #numbers > 0 then
  local fields = {}
  for _, number in ipairs(numbers) do
    for _, name in ipairs({ ':notes', ':labels', ':pinned' }) do
      fields[#fields + 1] = number .. name
    end
  end
  local record = redis.call('HMGET', records, unpack(numbers))
  local verdict = redis.call('HMGET', verdicts, unpack(numbers))
  local written = redis.call('HMGET', annotations, unpack(fields))
  local bytes = 0
  for i, number in ipairs(numbers) do
    local notes, labels, pinned = unpack(written, 3 * i - 2, 3 * i)
    bytes = bytes + redis.call('HSTRLEN', manifests, number) + #(notes or '') + #(labels or '')
    if i > 1 and bytes > limit then
      more = true
      break
    end
    local manifest = redis.call('HGET', manifests, number)
    found[i] = { number, record[i], verdict[i], notes, labels, pinned, manifest }
  end
end
return { more and 1 or 0, redis.call('HGETALL', aliases), found }
