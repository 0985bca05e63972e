"""The Lua scripts that change logs. Each is one atomic step.

KEYS begin with the session's document, its messages and their positions. A comment before a script
or a part of one describes its further KEYS, its ARGV and what it returns.
"""

from __future__ import annotations

from agentx_persistence._redis.scripts import ATOMIC_WRITE, JOURNALLED_WRITE, Script

# What the scripts return if they did nothing. DAMAGED: the parts of the log do not fit together,
# because some keys were evicted, for example; a script that went on would hide that. TAKEN: the key
# of a new session is taken. AGAIN: the client has to run the preceding steps again.
NO_SESSION, DAMAGED, NO_ENTRY, TAKEN, AGAIN = -1, -2, -3, -4, -5
# The first value of a list that they return. ELSEWHERE: nothing was done, as the index of active
# sessions is another one. MOVED: the client has to change the score in that index. COPY_FIRST: the
# client has to copy the kept entries first.
FOUND, ELSEWHERE, MOVED, COPY_FIRST = 1, 2, 3, 4
# The most entries that are cut off in one step if others stay. If none stays, all are unlinked.
LARGE = 50_000

HEAD = """
local found = redis.call('HMGET', KEYS[1], 'version', 'count', 'updated_at', 'generation', 'past')
if not found[1] then return -1 end
if not found[4] then return -2 end
local count = tonumber(found[2] or 0)
"""

# Returns the position of an entry, or nil and the answer to give: there is none, or it is damaged.
PLACED = """
local function placed(key, id, count)
  local place = tonumber(redis.call('ZSCORE', key, id) or nil)
  if not place then return nil, -3 end
  if place < 1 or place > count or place % 1 ~= 0 then return nil, -2 end
  return place
end
"""

# The ids are every `step`th argument from `first` on. Returns 1, count and generation of the log,
# then id, position and text of each that the log has at a position of at most `limit`.
THERE = """
local function there(found, count, limit, first, step)
  local reply, ids, places, low, high = {1, count, found[4]}, {}, {}, limit + 1, 0
  for start = first, #ARGV, 1000 * step do
    local some = {}
    for i = start, math.min(start + 999 * step, #ARGV), step do some[#some + 1] = ARGV[i] end
    for i, place in ipairs(redis.call('ZMSCORE', KEYS[3], unpack(some))) do
      place = tonumber(place or nil)
      if place and (place < 1 or place % 1 ~= 0) then return -2 end
      if place and place <= limit then
        ids[#ids + 1], places[#places + 1] = some[i], place
        low, high = math.min(low, place), math.max(high, place)
      end
    end
  end
  local near = ids[1] and high - low < 2 * #ids + 10
  near = near and redis.call('LRANGE', KEYS[2], low - 1, high - 1)
  for i, id in ipairs(ids) do
    local n, text = #reply
    if near then
      text = near[places[i] - low + 1]
    else
      text = redis.call('LINDEX', KEYS[2], places[i] - 1)
    end
    if not text then return -2 end
    reply[n + 1], reply[n + 2], reply[n + 3] = id, places[i], text
  end
  return reply
end
"""

# `add` appends the ids and texts that are given in turn from the argument `first` on, 500 pairs at
# a time; it returns how many of the ids were new. `cut` removes all entries after the first `kept`.
ADD = """
local function add(length, first)
  local added = 0
  for start = first, #ARGV, 1000 do
    local texts, scores, n = {}, {}, 0
    for i = start, math.min(start + 998, #ARGV - 1), 2 do
      n, length = n + 1, length + 1
      texts[n], scores[2 * n - 1], scores[2 * n] = ARGV[i + 1], length, ARGV[i]
    end
    redis.call('RPUSH', KEYS[2], unpack(texts))
    added = added + redis.call('ZADD', KEYS[3], 'NX', unpack(scores))
  end
  return added
end
local function cut(kept)
  if kept == 0 then
    redis.call('UNLINK', KEYS[2], KEYS[3])
  else
    redis.call('LTRIM', KEYS[2], 0, kept - 1)
    redis.call('ZREMRANGEBYSCORE', KEYS[3], '(' .. kept, '+inf')
  end
end
"""

# A part of each script that changes a log. ARGV begins with: the time, the version of the session's
# index entries that the client knows, the session's id, the expected number and generation (or "").
# Those of the script follow. `now` is the session's `updated_at` afterwards, and `score` its new
# score in the index of active sessions, if that changes.
_WRITE = """
local now, score, before = ARGV[1], nil, tonumber(found[3] or nil)
if before and before >= tonumber(now) then
  now = found[3]
else
  local second = math.floor(now / 1000)
  if not before or math.floor(before / 1000) ~= second then
    score = string.format('%.0f', -second)
  end
end
if (ARGV[4] ~= '' and tonumber(ARGV[4]) ~= count)
    or (ARGV[5] ~= '' and ARGV[5] ~= found[4]) then
  return there(found, count, count, FIRST, 2)
end
"""

# If all keys are on one server, KEYS[4] is the index of active sessions for the version that the
# client knows. If the score must change and the session has another version, the script does
# nothing and returns 2, and version and entries of the session.
_ATOMIC_CHECK = """
if score and found[1] ~= ARGV[2] then
  return {2, found[1], redis.call('HGET', KEYS[1], 'entries')}
end
"""
_ATOMIC_DONE = """
if score then redis.call('ZADD', KEYS[4], 'XX', score, ARGV[3] .. '\\0' .. found[1]) end
return answer
"""
# In a cluster, the client has to change the score afterwards. Returns 3, the answer that would be
# returned otherwise, the new score, the version, and, if the client does not know the version, the
# entries.
_JOURNALLED_DONE = """
if score then
  local entries = found[1] ~= ARGV[2] and redis.call('HGET', KEYS[1], 'entries')
  return {3, answer, score, found[1], entries}
end
return answer
"""

# KEYS: from the fifth on (in a cluster: from the fourth), those of `write`, to create the session.
# ARGV: the number of arguments for `write`, these arguments, then id and text of each entry.
# Returns the number of entries in the log.
_CREATE = """
local found = redis.call('HMGET', KEYS[1], 'version', 'count', 'updated_at', 'generation')
local first, count = 7 + ARGV[6], tonumber(found[2] or 0)
if not found[1] then
  if first == 7 then return -1 end
  if redis.call('EXISTS', KEYS[1], KEYS[2], KEYS[3]) ~= 0 then return -2 end
  if (ARGV[4] ~= '' and ARGV[4] ~= '0') or (ARGV[5] ~= '' and ARGV[5] ~= ARGV[11]) then
    return {1, 0, ''}
  end
  if not write(CREATE_KEYS, 7, {}) then return -5 end
  found = {ARGV[10], false, ARGV[8], ARGV[11]}
end
if not found[4] then return -2 end
"""
_APPEND = """
if first > #ARGV then return count end
if redis.call('ZCARD', KEYS[3]) ~= count then return -2 end
local answer = count + (#ARGV - first + 1) / 2
-- The ids are new as a rule, so nothing is asked for first. Else what was added is taken back.
if #ARGV == first + 1 then
  local length = redis.call('RPUSH', KEYS[2], ARGV[first + 1])
  if length ~= answer or redis.call('ZADD', KEYS[3], 'NX', length, ARGV[first]) ~= 1 then
    redis.call('RPOP', KEYS[2])
    if length ~= answer then return -2 end
    return there(found, count, count, first, 2)
  end
else
  if redis.call('LLEN', KEYS[2]) ~= count
      or redis.call('ZCOUNT', KEYS[3], '(' .. count, '+inf') ~= 0 then
    return -2
  end
  if count + add(count, first) ~= answer then
    cut(count)
    return there(found, count, count, first, 2)
  end
end
redis.call('HSET', KEYS[1], 'count', answer, 'updated_at', now)
"""

# Some earlier generations are kept, so that a repeated call finds its answer.
_PAST = """
local past = found[4] .. ' ' .. (found[5] or '')
if #past > 300 then past = past:sub(1, 300):match('^(.*) ') or '' end
"""

# Cutting off very many entries in one step would block the server. So the client first copies the
# entries that stay in chunks, and then this script replaces the log with the copy.
# KEYS end with those of the copy, if there is one. ARGV: token, "id" or "", the id or position of
# the last entry that stays, the generation that was copied (or ""), then id and text of each new
# entry. Returns how many were cut off; or 4, how many entries stay, and the generation to copy.
_REWRITE = """
local kept, wrong
local first, tokens = 10, ' ' .. found[4] .. ' ' .. (found[5] or '')
local _, at = tokens:find(' ' .. ARGV[6] .. '.', 1, true)
if at then return tonumber(tokens:match('^%d+', at + 1)) end
if redis.call('ZCARD', KEYS[3]) ~= count or redis.call('LLEN', KEYS[2]) ~= count then return -2 end
if ARGV[7] == 'id' then
  kept, wrong = placed(KEYS[3], ARGV[8], count)
  if wrong then return wrong end
else
  kept = tonumber(ARGV[8])
  if kept > count then return -3 end
end
"""
_REWRITE_REST = """
if #ARGV >= first then
  local present = there(found, count, kept, first, 2)
  if present == -2 or present[4] then return present end
end
local answer = count - kept
if answer > LARGE and kept > 0 then
  local n = #KEYS
  if ARGV[9] ~= found[4] or redis.call('LLEN', KEYS[n - 1]) ~= kept
      or redis.call('ZCARD', KEYS[n]) ~= kept then
    return {4, kept, found[4]}
  end
  redis.call('UNLINK', KEYS[2], KEYS[3])
  redis.call('RENAME', KEYS[n - 1], KEYS[2])
  redis.call('RENAME', KEYS[n], KEYS[3])
  redis.call('PERSIST', KEYS[2])
  redis.call('PERSIST', KEYS[3])
elseif answer > 0 then
  cut(kept)
end
add(kept, first)
redis.call('HSET', KEYS[1], 'count', kept + (#ARGV - first + 1) / 2, 'updated_at', now,
  'generation', ARGV[6] .. '.' .. answer, 'past', past)
"""

# ARGV: token, id, text. Returns 0.
_SWAP = """
local answer = 0
local tokens = ' ' .. found[4] .. ' ' .. (found[5] or '') .. ' '
if tokens:find(' ' .. ARGV[6] .. ' ', 1, true) then return 0 end
if redis.call('ZCARD', KEYS[3]) ~= count or redis.call('LLEN', KEYS[2]) ~= count then return -2 end
local place, wrong = placed(KEYS[3], ARGV[7], count)
if wrong then return wrong end
"""
_SWAP_REST = """
redis.call('LSET', KEYS[2], place - 1, ARGV[8])
redis.call('HSET', KEYS[1], 'updated_at', now, 'generation', ARGV[6], 'past', past)
"""


class LogScripts:
    """The scripts that differ between a single server and a cluster."""

    def __init__(self, *, cluster: bool) -> None:
        write = JOURNALLED_WRITE if cluster else ATOMIC_WRITE
        check = "" if cluster else _ATOMIC_CHECK
        done = _JOURNALLED_DONE if cluster else _ATOMIC_DONE
        create = _CREATE.replace("CREATE_KEYS", "4" if cluster else "5")
        guards = _WRITE.replace("FIRST", "first")
        self.append = Script(write, THERE, ADD, create, guards, check, _APPEND, done)
        self.rewrite = Script(
            *(PLACED, THERE, ADD, HEAD, _REWRITE, guards, check, _PAST),
            *(_REWRITE_REST.replace("LARGE", str(LARGE)), done),
        )
        swap_guards = _WRITE.replace("FIRST", "#ARGV + 1")
        self.swap = Script(PLACED, THERE, HEAD, _SWAP, swap_guards, check, _PAST, _SWAP_REST, done)
