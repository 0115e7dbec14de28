-- What every script that changes a model ends with. One whose reply was lost is sent again by the client of Redis: it is
-- told what came of it, and nothing happens twice.
local known = redis.call('GET', receipt)
if known then
  return cmsgpack.unpack(known)
end
local reply = change()
if reply[1] == 'done' then
  redis.call('SET', receipt, cmsgpack.pack(reply), 'EX', 60)
end
return reply
