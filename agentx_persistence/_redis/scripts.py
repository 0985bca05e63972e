"""The Lua scripts: each is one atomic step.

A script touches only the keys in KEYS, as Redis Cluster demands, and gets every value in ARGV.
"""

from __future__ import annotations

import hashlib


class Script:
    """Lua, and the name that EVALSHA knows it by."""

    def __init__(self, lua: str) -> None:
        self.lua = lua
        self.sha = hashlib.sha1(lua.encode(), usedforsecurity=False).hexdigest()


# What the scripts of logs return when they did nothing. A log whose parts do not fit together was
# damaged from outside (some keys evicted, for example); to go on with it would hide that.
NO_SESSION, DAMAGED, NO_ENTRY = -1, -2, -3

# KEYS: document, messages, positions.
_COUNT = """
local found = redis.call('HMGET', KEYS[1], 'version', 'count')
if not found[1] then return -1 end
local count = tonumber(found[2] or 0)
if redis.call('ZCARD', KEYS[3]) ~= count then return -2 end
"""
_LENGTH = """
if redis.call('LLEN', KEYS[2]) ~= count then return -2 end
"""

# ARGV: updated_at, then the id and the text of each entry.
# Returns the position of each, or that of the last one alone if all are new, or the number of the
# entry that is in conflict, or what is above.
APPEND = Script(
    _COUNT
    + """
-- New as a rule, so that nothing is asked for first. Else what was added is taken back.
if #ARGV == 3 then
  local length = redis.call('RPUSH', KEYS[2], ARGV[3])
  if length == count + 1 and redis.call('ZADD', KEYS[3], 'NX', length, ARGV[2]) == 1 then
    redis.call('HSET', KEYS[1], 'count', length, 'updated_at', ARGV[1])
    return {length}
  end
  redis.call('RPOP', KEYS[2])
end
"""
    + _LENGTH
    + """
if #ARGV > 3 then
  if redis.call('ZCOUNT', KEYS[3], '(' .. count, '+inf') ~= 0 then return -2 end
  local length, added = count, 0
  for first = 2, #ARGV, 1000 do
    local texts, scores, n = {}, {}, 0
    for i = first, math.min(first + 998, #ARGV - 1), 2 do
      n, length = n + 1, length + 1
      texts[n], scores[2 * n - 1], scores[2 * n] = ARGV[i + 1], length, ARGV[i]
    end
    redis.call('RPUSH', KEYS[2], unpack(texts))
    added = added + redis.call('ZADD', KEYS[3], 'NX', unpack(scores))
  end
  if count + added == length then
    redis.call('HSET', KEYS[1], 'count', length, 'updated_at', ARGV[1])
    return {length}
  end
  if count == 0 then
    redis.call('UNLINK', KEYS[2])
  else
    redis.call('LTRIM', KEYS[2], 0, count - 1)
  end
  redis.call('ZREMRANGEBYSCORE', KEYS[3], '(' .. count, '+inf')
end
local positions, new, texts, scores = {}, {}, {}, {}
for first = 2, #ARGV, 1000 do
  local ids = {}
  for i = first, math.min(first + 998, #ARGV - 1), 2 do ids[#ids + 1] = ARGV[i] end
  for n, score in ipairs(redis.call('ZMSCORE', KEYS[3], unpack(ids))) do
    local id, text = ids[n], ARGV[first + 2 * n - 1]
    local place = tonumber(score or nil) or new[id]
    if not place then
      texts[#texts + 1], scores[#scores + 1] = text, count + #texts + 1
      scores[#scores + 1] = id
      place = count + #texts
      new[id] = place
    elseif (score and redis.call('LINDEX', KEYS[2], place - 1) or texts[place - count]) ~= text then
      return first / 2 + n - 1
    end
    positions[#positions + 1] = place
  end
end
if texts[1] then
  for i = 1, #texts, 500 do
    redis.call('RPUSH', KEYS[2], unpack(texts, i, math.min(i + 499, #texts)))
    redis.call('ZADD', KEYS[3], unpack(scores, 2 * i - 1, math.min(2 * i + 998, #scores)))
  end
  redis.call('HSET', KEYS[1], 'count', count + #texts, 'updated_at', ARGV[1])
end
if #texts == #positions and texts[1] then return {count + #texts} end
return positions
"""
)

# KEYS: also that of the command. ARGV: a command about the log, without its key.
# Returns version and count of the document, the length of the log, and the command's reply.
READ = Script("""
local found = redis.call('HMGET', KEYS[1], 'version', 'count')
local length = redis.call('LLEN', KEYS[2])
return {found[1], found[2], length, redis.call(ARGV[1], KEYS[3], unpack(ARGV, 2))}
""")

# ARGV: the id of the last entry that stays, or nothing. Returns how many went.
TRUNCATE = Script(
    _COUNT
    + _LENGTH
    + """
local kept = 0
if ARGV[1] then
  kept = tonumber(redis.call('ZSCORE', KEYS[3], ARGV[1]) or nil)
  if not kept then return -3 end
end
if kept == 0 then
  redis.call('UNLINK', KEYS[2], KEYS[3])
elseif kept < count then
  redis.call('LTRIM', KEYS[2], 0, kept - 1)
  redis.call('ZREMRANGEBYRANK', KEYS[3], kept, -1)
end
redis.call('HSET', KEYS[1], 'count', kept)
return count - kept
"""
)

# KEYS: documents. ARGV: for each the version that an index says it has.
# Returns the fields of each, or only text and updated_at if it has this version (each reply that is
# left out saves the client a tenth of its work), or an error in their place.
FETCH = Script("""
local found = {}
for i, key in ipairs(KEYS) do
  local fields = redis.pcall('HMGET', key, 'text', 'created_at', 'updated_at', 'version', 'entries')
  local whole = fields[1] and tonumber(fields[2] or nil) and fields[3] and fields[5]
  if fields[4] == ARGV[i] and whole then fields = {fields[1], fields[3]} end
  found[i] = fields
end
return found
""")

# KEYS: document. ARGV: SHA-1 of the text that is to be replaced, text, updated_at.
# Returns 0 if the document has another text.
REPLACE = Script("""
local text = redis.call('HGET', KEYS[1], 'text')
if not text or redis.sha1hex(text) ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'text', ARGV[2], 'updated_at', ARGV[3])
return 1
""")

# The two for a server that has all keys. What goes wrong half-way (a key of the wrong type, say)
# leaves at worst an index entry that is not the document's, as the document comes after it.

# KEYS: document, index keys to enter, index keys to leave.
# ARGV: number of keys to enter, text, created_at, updated_at, entries, version, place,
#   the version of the entries to leave, their place.
# Returns nothing, or version and entries of the document if these others are to be left.
PUT = Script("""
local stored = redis.call('HMGET', KEYS[1], 'version', 'entries')
local version = ARGV[6]
if stored[1] and stored[2] == ARGV[5] then
  version = stored[1]
elseif stored[1] and stored[1] ~= ARGV[8] then
  return stored
end
local last, member = ARGV[1] + 1, ARGV[7] .. '\\0' .. version
for i = 2, last do
  redis.call('ZADD', KEYS[i], '0', member)  -- a number would be turned into text each time
end
redis.call('HSET', KEYS[1], 'text', ARGV[2], 'created_at', ARGV[3], 'updated_at', ARGV[4],
  'entries', ARGV[5], 'version', version)
for i = last + 1, #KEYS do
  redis.call('ZREM', KEYS[i], ARGV[9] .. '\\0' .. ARGV[8])
end
return false
""")

# KEYS: document, the keys of its log, index keys to leave.
# ARGV: number of keys of the log, the version of the entries to leave, their place.
# Returns whether the document was there, or its version and entries as above.
DELETE = Script("""
local stored = redis.call('HMGET', KEYS[1], 'version', 'entries')
if stored[1] and stored[1] ~= ARGV[2] then return stored end
local last = ARGV[1] + 1
for i = last + 1, #KEYS do
  redis.call('ZREM', KEYS[i], ARGV[3] .. '\\0' .. ARGV[2])
end
for i = 2, last do redis.call('UNLINK', KEYS[i]) end
return redis.call('UNLINK', KEYS[1])
""")

# The four for a cluster, where the index keys are in other slots: see `JournalledIndexing`.

# KEYS: document, journal. A version in the journal is marked "+" as long as its entries may
# become the document's, "-" once they only have to be removed.
_REMOVABLE = """
local function removable()
  local journal, found = redis.call('HGETALL', KEYS[2]), {}
  for i = 1, #journal, 2 do
    if journal[i + 1]:sub(1, 1) == '-' then
      found[#found + 1] = journal[i]
      found[#found + 1] = journal[i + 1]:sub(2)
    end
  end
  return found
end
"""

# ARGV: entries, version. Returns the version that the entries must have.
BEGIN = Script("""
local stored = redis.call('HMGET', KEYS[1], 'version', 'entries')
local version = stored[1] and stored[2] == ARGV[1] and stored[1] or ARGV[2]
redis.call('HSET', KEYS[2], version, '+' .. ARGV[1])
return version
""")

# ARGV: version, text, created_at, updated_at, entries.
# Returns what is to be removed, or nothing if the entries of this version may have been.
COMMIT = Script(
    _REMOVABLE
    + """
local stored = redis.call('HMGET', KEYS[1], 'version', 'entries')
local mark = redis.call('HGET', KEYS[2], ARGV[1])
if stored[1] ~= ARGV[1] then
  if not mark or mark:sub(1, 1) ~= '+' then return false end
  if stored[1] and stored[2] then
    redis.call('HSET', KEYS[2], stored[1], '-' .. stored[2])
  end
end
redis.call('HSET', KEYS[1], 'text', ARGV[2], 'created_at', ARGV[3], 'updated_at', ARGV[4],
  'entries', ARGV[5], 'version', ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
return removable()
"""
)

# KEYS: also the keys of the log.
# Returns whether the document was there, then what is to be removed.
ABANDON = Script(
    _REMOVABLE
    + """
local stored = redis.call('HMGET', KEYS[1], 'version', 'entries')
if stored[1] and stored[2] then
  redis.call('HSET', KEYS[2], stored[1], '-' .. stored[2])
end
local journal = redis.call('HGETALL', KEYS[2])
for i = 1, #journal, 2 do
  redis.call('HSET', KEYS[2], journal[i], '-' .. journal[i + 1]:sub(2))
end
local reply = {redis.call('UNLINK', KEYS[1])}
for i = 3, #KEYS do redis.call('UNLINK', KEYS[i]) end
for _, value in ipairs(removable()) do reply[#reply + 1] = value end
return reply
"""
)

# ARGV: a version. Returns nothing if it is the document's, else what is to be removed; the
# entries of this version cannot become the document's any more.
DISOWN = Script(
    _REMOVABLE
    + """
if redis.call('HGET', KEYS[1], 'version') == ARGV[1] then return false end
local mark = redis.call('HGET', KEYS[2], ARGV[1])
if mark then redis.call('HSET', KEYS[2], ARGV[1], '-' .. mark:sub(2)) end
return removable()
"""
)
