"""The Lua scripts of documents and their indexes. Each is one atomic step.

A script touches only the keys in KEYS, as Redis Cluster demands, and gets every value in ARGV. A
comment before a script describes its KEYS, its ARGV and what it returns. "Version" and "entries"
are those in `indexing`; index keys "to enter" get a member for the document, and those "to leave"
lose the old one.
"""

from __future__ import annotations

import hashlib


class Script:
    """A script in Lua, and the hash by which EVALSHA names it."""

    def __init__(self, *lua: str) -> None:
        self.lua = "".join(lua)
        self.sha = hashlib.sha1(self.lua.encode(), usedforsecurity=False).hexdigest()


# `write(k, a, stored)` writes the document at KEYS[1]. `stored` holds the version and the entries
# that the document has, and in `replaced` whether it certainly has its index entries. There are two
# forms of it. In both, ARGV from `a` on is: text, updated_at, entries, version, revision,
# "session", "item" or "".

# The form for a single server, where the index entries change in the same step. They are added
# before the document is written, so that an error half-way (such as a key of the wrong type) leaves
# at worst an entry that is ignored. ARGV goes on with: the first part of the document's members in
# indexes by time, and in the other index; the score there; the number of index keys by time to
# enter, and of the other kind ("0" or "1"); the version to leave, and the first part of its members
# by time; the number of index keys by time to leave, and of the other kind; for an item the first
# element. KEYS from `k` on are: the index keys to enter, those to leave, and for an item the key of
# the first elements.
# If the document has another version than the one to leave, but entries that differ only in the
# time, `write` leaves those. If they differ otherwise, it does nothing and returns false.
ATOMIC_WRITE = """
local function other_place(a, entries)
  local time, fields = (entries or ''):match('^%[(%d+),(.*)$')
  if not time or fields ~= ARGV[a + 2]:match('^%[%-?%d+,(.*)$') then return nil end
  local rest = 2^53 - time
  -- In two halves, as the integers that Lua formats may have only 32 bits.
  return string.format('%07x%07x', math.floor(rest / 2^28), rest % 2^28) .. ARGV[a + 6]:sub(15)
end
local function write(k, a, stored)
  local version, left, other = ARGV[a + 3], ARGV[a + 11], nil
  if stored[1] and stored[2] == ARGV[a + 2] then
    version = stored[1]
  elseif stored[1] and stored[1] ~= left then
    other = other_place(a, stored[2])
    if not other then return false end
  end
  local indexed = stored.replaced and version == stored[1]
  local member, i = ARGV[a + 6] .. '\\0' .. version, k
  for _ = 1, ARGV[a + 9] + 0 do
    if not indexed then
      redis.call('ZADD', KEYS[i], '0', member)  -- a number would be turned into text each time
    end
    i = i + 1
  end
  if ARGV[a + 10] == '1' then
    if ARGV[a + 5] == 'session' or not indexed then
      redis.call('ZADD', KEYS[i], ARGV[a + 8], ARGV[a + 7] .. '\\0' .. version)
    end
    i = i + 1
  end
  if ARGV[a + 5] == 'item' and not indexed then
    redis.call('ZADD', KEYS[#KEYS], '0', ARGV[a + 15])
  end
  redis.call('HSET', KEYS[1], 'text', ARGV[a], 'updated_at', ARGV[a + 1],
    'entries', ARGV[a + 2], 'version', version, 'revision', ARGV[a + 4])
  if ARGV[a + 5] == 'session' then redis.call('HSETNX', KEYS[1], 'generation', ARGV[a + 4]) end
  if other then
    for j = k, k + ARGV[a + 9] - 1 do redis.call('ZREM', KEYS[j], other .. '\\0' .. stored[1]) end
    if ARGV[a + 10] == '1' then
      redis.call('ZREM', KEYS[k + ARGV[a + 9]], ARGV[a + 7] .. '\\0' .. stored[1])
    end
  end
  for _ = 1, ARGV[a + 13] + 0 do
    redis.call('ZREM', KEYS[i], ARGV[a + 12] .. '\\0' .. left)
    i = i + 1
  end
  if ARGV[a + 14] == '1' then
    redis.call('ZREM', KEYS[i], ARGV[a + 7] .. '\\0' .. left)
    i = i + 1
  end
  return true
end
"""

# The form for a cluster, where the index keys are in other slots: see `JournalledIndexing`. KEYS[k]
# is the journal. It marks a version with "+" as long as its entries may become the document's, and
# with "-" once they only have to be removed. `write` does nothing and returns false if the entries
# of the new version may have been removed. `removable` returns the versions with "-", each with its
# entries.
REMOVABLE = """
local function removable(key)
  local journal, found = redis.call('HGETALL', key), {}
  for i = 1, #journal, 2 do
    if journal[i + 1]:sub(1, 1) == '-' then
      found[#found + 1] = journal[i]
      found[#found + 1] = journal[i + 1]:sub(2)
    end
  end
  return found
end
"""
JOURNALLED_WRITE = (
    REMOVABLE
    + """
local function write(k, a, stored)
  local version = ARGV[a + 3]
  local mark = redis.call('HGET', KEYS[k], version)
  if stored[1] ~= version then
    if not mark or mark:sub(1, 1) ~= '+' then return false end
    if stored[1] and stored[2] then
      redis.call('HSET', KEYS[k], stored[1], '-' .. stored[2])
    end
  end
  redis.call('HSET', KEYS[1], 'text', ARGV[a], 'updated_at', ARGV[a + 1],
    'entries', ARGV[a + 2], 'version', version, 'revision', ARGV[a + 4])
  if ARGV[a + 5] == 'session' then redis.call('HSETNX', KEYS[1], 'generation', ARGV[a + 4]) end
  redis.call('HDEL', KEYS[k], version)
  return true
end
"""
)

# Writes a document. "put" adds its index entries even if they stay the same, in case some are lost.
# KEYS: document, those of `write`. ARGV: "put", "create" or "replace", the revision to replace,
# those of `write`.
# Returns 0 if "create" or "replace" refuses it; -1, version and entries of the document if `write`
# did nothing.
_PUT = """
local stored = redis.call('HMGET', KEYS[1], 'version', 'entries', 'revision')
if ARGV[1] ~= 'put' and stored[3] ~= ARGV[7] then
  if ARGV[1] == 'create' and redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
  if ARGV[1] == 'replace' and stored[3] ~= ARGV[2] then return 0 end
end
stored.replaced = ARGV[1] == 'replace'
if not write(2, 3, stored) then return {-1, stored[1], stored[2]} end
"""
ATOMIC_PUT = Script(ATOMIC_WRITE, _PUT, "return 1")
# Otherwise returns what `removable` does.
JOURNALLED_PUT = Script(JOURNALLED_WRITE, _PUT, "return removable(KEYS[2])")

# KEYS: documents. Returns version, entries and revision of each, or an error in their place.
SEEN = Script("""
local found = {}
for i, key in ipairs(KEYS) do
  found[i] = redis.pcall('HMGET', key, 'version', 'entries', 'revision')
end
return found
""")

# KEYS: documents. ARGV: for each the version that an index says it has.
# Returns the fields of each, or only text and updated_at if it has this version, or an error in
# their place. Each field that is left out saves the client a tenth of its work.
FETCH = Script("""
local found = {}
for i, key in ipairs(KEYS) do
  local fields = redis.pcall('HMGET', key, 'text', 'updated_at', 'revision', 'version', 'entries')
  local whole = fields[1] and tonumber(fields[2] or nil) and fields[3] and fields[5]
  if whole and fields[4] == ARGV[i] then fields = {fields[1], fields[2]} end
  found[i] = fields
end
return found
""")

# Lists the active sessions of a container. KEYS: index. ARGV: least and greatest score, limit, then
# the score and the id of the place to start after, if any.
# Returns members and scores in turn. Bytes are compared one by one, as Lua's `<` for texts depends
# on the server's locale.
ACTIVE = Script("""
local function after(member, id)
  for i = 1, #id do
    local a, b = member:byte(i) or -1, id:byte(i)
    if a ~= b then return a > b end
  end
  return member:byte(#id + 1) ~= 0
end
local key, stop = KEYS[1], redis.call('ZCOUNT', KEYS[1], '-inf', ARGV[2])
local start = redis.call('ZCOUNT', key, '-inf', '(' .. ARGV[1])
if ARGV[4] then
  local first = redis.call('ZCOUNT', key, '-inf', '(' .. ARGV[4])
  local last = first + redis.call('ZCOUNT', key, ARGV[4], ARGV[4])
  while first < last do
    local middle = math.floor((first + last) / 2)
    if after(redis.call('ZRANGE', key, middle, middle)[1], ARGV[5]) then
      last = middle
    else
      first = middle + 1
    end
  end
  start = first
end
stop = math.min(stop, start + ARGV[3]) - 1
if stop < start then return {} end
return redis.call('ZRANGE', key, start, stop, 'WITHSCORES')
""")

# Corrects the score of an active session if it still has the one that was read.
# KEYS: index. ARGV: member, score, the right score.
CORRECT = Script("""
if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or nil) == tonumber(ARGV[2]) then
  redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1])
end
""")

# The following are for a cluster. KEYS: document, journal.

# Records in the journal that index entries are about to be added. ARGV: entries, a new version.
# Returns the version to use: the document's own if its entries are equal, else the new one.
BEGIN = Script("""
local stored = redis.call('HMGET', KEYS[1], 'version', 'entries')
local version = stored[1] and stored[2] == ARGV[1] and stored[1] or ARGV[2]
redis.call('HSET', KEYS[2], version, '+' .. ARGV[1])
return version
""")

# ARGV: a version. Returns nothing if the document has this version. Otherwise marks it with "-", so
# that its entries cannot become the document's any more, and returns what `removable` does.
DISOWN = Script(
    REMOVABLE,
    """
if redis.call('HGET', KEYS[1], 'version') == ARGV[1] then
  redis.call('HDEL', KEYS[2], ARGV[1])
  return false
end
local mark = redis.call('HGET', KEYS[2], ARGV[1])
if mark then redis.call('HSET', KEYS[2], ARGV[1], '-' .. mark:sub(2)) end
return removable(KEYS[2])
""",
)
