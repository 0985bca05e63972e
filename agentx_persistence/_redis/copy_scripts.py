"""The Lua scripts that copy logs. Their KEYS begin like those in `log_scripts`."""

from __future__ import annotations

from agentx_persistence._redis.log_scripts import ADD, PLACED
from agentx_persistence._redis.scripts import ATOMIC_WRITE, JOURNALLED_WRITE, Script

# The most entries that the command COPY copies in one step. With that many it takes half as long as
# a chunk of `Logs._copy`.
COPIED = 20_000
# The most bytes, if all entries were as large as the larger one of the first and the last.
COPIED_BYTES = 64 * 2**20

# Reads the entries from the position `first` to `last`, and hands some at a time to `take`: first
# one, then twice the number each time, up to a hundred, as they may be large. Stops when their
# texts have 4 MB together. Returns false if an entry is missing.
_BATCHES = """
local function batches(first, last, take)
  local bytes, size = 0, 1
  while first <= last and bytes < ENOUGH do
    local stop = math.min(first + size - 1, last)
    local texts = redis.call('LRANGE', KEYS[2], first - 1, stop - 1)
    local placed = redis.call('ZRANGEBYSCORE', KEYS[3], first, stop, 'WITHSCORES')
    if #texts ~= stop - first + 1 or #placed ~= 2 * #texts then return false end
    for i = 1, #texts do bytes = bytes + #texts[i] end
    take(texts, placed)
    first, size = stop + 1, math.min(2 * size, 100)
  end
  return true
end
if redis.call('HGET', KEYS[1], 'generation') ~= ARGV[1] then return -5 end
""".replace("ENOUGH", str(4 * 2**20))

# Copies a chunk of a log, or its first entries if they are large. KEYS: document, messages,
# positions, those two of the copy. ARGV: generation, first and last position of this chunk.
# Returns how many entries the copy has, or -5 if the log has been changed meanwhile.
COPY = Script(
    _BATCHES,
    """
local there = redis.call('LLEN', KEYS[4])
if there ~= ARGV[2] - 1 then return there end  -- an earlier attempt has copied this chunk
local complete = batches(tonumber(ARGV[2]), tonumber(ARGV[3]), function(texts, placed)
  for i = 1, #placed, 2 do placed[i], placed[i + 1] = placed[i + 1], placed[i] end
  redis.call('RPUSH', KEYS[4], unpack(texts))
  redis.call('ZADD', KEYS[5], unpack(placed))
end)
redis.call('PEXPIRE', KEYS[4], 3600000)
redis.call('PEXPIRE', KEYS[5], 3600000)
if not complete then return -2 end  -- the batches before have been copied
return redis.call('LLEN', KEYS[4])
""",
)
# In a cluster, the copy may be on another server. COPY_OUT returns ids and texts in turn, and
# COPY_IN adds them to the copy.
COPY_OUT = Script(
    _BATCHES,
    """
local flat = {}
local complete = batches(tonumber(ARGV[2]), tonumber(ARGV[3]), function(texts, placed)
  for i = 1, #texts do
    flat[#flat + 1] = placed[2 * i - 1]
    flat[#flat + 1] = texts[i]
  end
end)
return complete and flat or -2
""",
)
COPY_IN = Script(
    ADD,
    """
local there = redis.call('LLEN', KEYS[2])
if there ~= tonumber(ARGV[1]) then return there end
add(tonumber(ARGV[1]), 2)
redis.call('PEXPIRE', KEYS[2], 3600000)
redis.call('PEXPIRE', KEYS[3], 3600000)
return redis.call('LLEN', KEYS[2])
""",
)

# Returns how many entries an earlier attempt has copied, or nil. Since then, others may have
# changed the revision or the generation of the copy.
_MADE_BY = """
local function made_by(token)
  local stored = redis.call('HMGET', KEYS[1], 'revision', 'generation', 'forked')
  if stored[1] == token or stored[2] == token then return tonumber(stored[3] or nil) end
end
"""

# Copies a log on the same server in one step, if it is not too long for that. KEYS: document,
# messages, positions, those three of the log to copy, those of `write`. ARGV: "id" or "", the id of
# the last entry to copy, those of `write`.
# Returns the number of entries, or 4 in a list if the client has to copy them first.
_FORK_AT_ONCE = """
local made = made_by(ARGV[7])
if made then return made end
local found = redis.call('HMGET', KEYS[4], 'version', 'count', 'generation')
if not found[1] then return -1 end
local length = tonumber(found[2] or 0)
if not found[3] or redis.call('LLEN', KEYS[5]) ~= length
    or redis.call('ZCARD', KEYS[6]) ~= length then
  return -2
end
local count, wrong = length
if ARGV[1] == 'id' then count, wrong = placed(KEYS[6], ARGV[2], length) end
if wrong then return wrong end
if redis.call('EXISTS', KEYS[1]) == 1 then return -4 end
local first, last = redis.call('LINDEX', KEYS[5], 0), redis.call('LINDEX', KEYS[5], -1)
local bytes = length * math.max(#(first or ''), #(last or ''))
if length > COPIED or bytes > COPIED_BYTES then return {4} end
if not write(7, 3, {}) then return -5 end
redis.call('UNLINK', KEYS[2], KEYS[3])
redis.call('COPY', KEYS[5], KEYS[2])
redis.call('COPY', KEYS[6], KEYS[3])
if count < length then
  redis.call('LTRIM', KEYS[2], 0, count - 1)
  redis.call('ZREMRANGEBYSCORE', KEYS[3], '(' .. count, '+inf')
end
redis.call('HSET', KEYS[1], 'count', count, 'forked', count)
return count
"""

# KEYS: document, messages, positions, those of the copy, those of `write`.
# ARGV: the number of entries, those of `write`.
_FORK = """
local made, count = made_by(ARGV[6]), tonumber(ARGV[1])
if made then return made end
if redis.call('EXISTS', KEYS[1]) == 1 then return -4 end
if redis.call('LLEN', KEYS[4]) ~= count or redis.call('ZCARD', KEYS[5]) ~= count then return -5 end
if not write(6, 2, {}) then return -5 end
redis.call('UNLINK', KEYS[2], KEYS[3])
if count > 0 then
  redis.call('RENAME', KEYS[4], KEYS[2])
  redis.call('RENAME', KEYS[5], KEYS[3])
  redis.call('PERSIST', KEYS[2])
  redis.call('PERSIST', KEYS[3])
end
redis.call('HSET', KEYS[1], 'count', count, 'forked', count)
return count
"""


class ForkScripts:
    """The scripts that make a session of a copy."""

    def __init__(self, *, cluster: bool) -> None:
        write = JOURNALLED_WRITE if cluster else ATOMIC_WRITE
        limits = f"local COPIED, COPIED_BYTES = {COPIED}, {COPIED_BYTES}"
        self.fork = Script(write, _MADE_BY, _FORK)
        self.fork_at_once = Script(write, _MADE_BY, PLACED, limits, _FORK_AT_ONCE)
