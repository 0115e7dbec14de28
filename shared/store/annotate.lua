-- Writes about a version.
-- ARGV: version, then what to write: 'notes', 'labels' or 'pinned', each followed by its value
if redis.call('HEXISTS', records, ARGV[1]) == 0 then
  return { 'no_version' }
end
for i = 2, #ARGV, 2 do
  redis.call('HSET', annotations, ARGV[1] .. ':' .. ARGV[i], ARGV[i + 1])
end
return { 'done' }
