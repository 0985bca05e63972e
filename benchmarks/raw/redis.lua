-- The scripts of redis.py: this beginning, then one of the parts, each under a line "--- name".
-- A session's KEYS are the session, its messages and their ids; ARGV begin with the time.
-- Return the count of messages, and a function to call when they have changed. The index of
-- active sessions changes at most once a second.
local function opened()
  local head = redis.call('HMGET', KEYS[1], 'updated_at', 'container_id')
  return head[1] and redis.call('LLEN', KEYS[2]), function()
    local second = math.floor(ARGV[1] / 1000)
    if math.floor(head[1] / 1000) ~= second then
      redis.call('ZADD', 'raw:sessions active:' .. head[2], -second, KEYS[1]:sub(14))
    end
    redis.call('HSET', KEYS[1], 'updated_at', ARGV[1])
  end
end
local function place(id) return tonumber(redis.call('HGET', KEYS[3], id) or nil) end
local function leave(indexes, id)
  for index in indexes:gmatch('[^\n]+') do redis.call('ZREM', index, id) end
end
-- KEYS: a document, its indexes. ARGV: its text, its name and scores in the indexes, more fields.
local function save()
  local old, new = redis.call('HGET', KEYS[1], 'indexes'), table.concat(KEYS, '\n', 2)
  if old and old ~= new then leave(old, ARGV[2]) end
  for i = 2, #KEYS do redis.call('ZADD', KEYS[i], ARGV[i + 1], ARGV[2]) end
  redis.call('HSET', KEYS[1], 'text', ARGV[1], 'indexes', new, unpack(ARGV, #KEYS + 2))
end
--- save
save()
--- replace
-- KEYS: a document. ARGV: the text that was read, the new one.
if redis.call('HGET', KEYS[1], 'text') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'text', ARGV[2])
return 1
--- append
-- ARGV: then id and text of each message.
local length, touch = opened()
if not length then return -1 end
local ids, texts, places = {}, {}, {}
for i = 2, #ARGV, 2 do ids[i / 2] = ARGV[i] end
for i, there in ipairs(redis.call('HMGET', KEYS[3], unpack(ids))) do
  local text = ARGV[2 * i + 1]
  if there then
    if redis.call('LINDEX', KEYS[2], there - 1) ~= text then return -2 end
  else
    texts[#texts + 1], places[#places + 1] = text, ids[i]
    places[#places + 1] = length + #texts
  end
end
if #texts > 0 then
  redis.call('RPUSH', KEYS[2], unpack(texts))
  redis.call('HSET', KEYS[3], unpack(places))
  touch()
end
return length + #texts
--- tail
-- ARGV: then the id of the last message that stays. Returns those after it.
local kept = place(ARGV[2])
return kept and redis.call('LRANGE', KEYS[2], kept, -1)
--- rewrite
-- ARGV: then the id of the last message that stays, id and text of the new one, the ids that were
-- read after it. Returns 0 if there are others by now.
local length, touch = opened()
local kept, there = place(ARGV[2]), place(ARGV[3])
if not length or not kept or there and there <= kept then return -2 end
if length ~= kept + #ARGV - 4 or length > kept and place(ARGV[#ARGV]) ~= length then return 0 end
for i = 5, #ARGV do redis.call('HDEL', KEYS[3], ARGV[i]) end
redis.call('LTRIM', KEYS[2], 0, kept - 1)
redis.call('RPUSH', KEYS[2], ARGV[4])
redis.call('HSET', KEYS[3], ARGV[3], kept + 1)
touch()
return 1
--- pop
-- ARGV: then the id of the newest message that was read. Returns 0 if it is another one by now.
local length, touch = opened()
if not length then return -1 end
if place(ARGV[2]) ~= length then return 0 end
redis.call('RPOP', KEYS[2])
redis.call('HDEL', KEYS[3], ARGV[2])
touch()
return 1
--- fork
-- As `save`; ARGV end with the session whose messages the new one gets.
local old, id = table.remove(ARGV), ARGV[2]
if redis.call('EXISTS', 'raw:sessions:' .. old) == 0 or redis.call('EXISTS', KEYS[1]) == 1 then
  return -1
end
redis.call('COPY', 'raw:m:' .. old, 'raw:m:' .. id)
redis.call('COPY', 'raw:i:' .. old, 'raw:i:' .. id)
save()
return redis.call('LLEN', 'raw:m:' .. id)
--- summaries
local found = {}
for i, id in ipairs(ARGV) do
  found[i] = redis.call('EXISTS', 'raw:sessions:' .. id) == 1 and
    {redis.call('LLEN', 'raw:m:' .. id), redis.call('LINDEX', 'raw:m:' .. id, -1)}
end
return found
--- delete image
-- KEYS: image, its sessions. ARGV: its id.
for _, session in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
  leave(redis.call('HGET', 'raw:sessions:' .. session, 'indexes'), session)
  redis.call('UNLINK', 'raw:sessions:' .. session, 'raw:m:' .. session, 'raw:i:' .. session)
end
leave(redis.call('HGET', KEYS[1], 'indexes') or '', ARGV[1])
redis.call('UNLINK', KEYS[1])
