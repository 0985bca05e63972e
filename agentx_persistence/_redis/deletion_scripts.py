"""The Lua scripts that delete documents. `scripts.py` explains their comments."""

from __future__ import annotations

from agentx_persistence._redis.scripts import REMOVABLE, Script

# What the scripts return for a document that they did not delete. KEPT: its last change is not
# earlier than the time `before`. DAMAGED: its `updated_at` is missing, or no number.
KEPT, DAMAGED = -1, -2

# `kept` returns one of these, or nothing if the document is absent, older, or `before` is "".
_KEPT = """
local function kept(key, before)
  if before == '' or redis.call('EXISTS', key) == 0 then return nil end
  local at = tonumber(redis.call('HGET', key, 'updated_at') or nil)
  if not at then return -2 end
  return at >= tonumber(before) and -1
end
"""

# Deletes documents of one kind. KEYS: index keys that all of them leave; then for each: document,
# the keys of its log, its other index keys to leave; for items the keys of the index by key and of
# the first elements. ARGV: number of keys of a log, the first element of items or "", number of
# index keys by time that all leave, and of others, the time `before` (or ""); then for each:
# version and revision (or "") that it must have, its member in indexes by time, number of its other
# index keys by time, and the rest.
# Returns for each whether it existed, or version, entries and revision if it has others, or what
# `kept` does.
DELETE = Script(
    _KEPT,
    """
local log, by_time = ARGV[1] + 0, ARGV[3] + 0
local common = by_time + ARGV[4]
local k, reply, gone, left, members, others = common + 1, {}, {}, {}, {}, {}
local function leave(key, member)
  local found = left[key]
  if found then found[#found + 1] = member else left[key] = {member} end
end
for p = 6, #ARGV, 5 do
  local last, stored = k + log, redis.call('HGET', KEYS[k], 'version')
  local further = last + ARGV[p + 3]
  local following = further + ARGV[p + 4] + 1
  local answer = kept(KEYS[k], ARGV[5])
  if stored and (stored ~= ARGV[p] or (ARGV[p + 1] ~= ''
      and redis.call('HGET', KEYS[k], 'revision') ~= ARGV[p + 1])) then
    reply[#reply + 1] = redis.call('HMGET', KEYS[k], 'version', 'entries', 'revision')
  elseif answer then
    reply[#reply + 1] = answer
  else
    reply[#reply + 1] = stored and 1 or redis.call('EXISTS', KEYS[k])
    for i = k, last do gone[#gone + 1] = KEYS[i] end
    local member = ARGV[p + 2]
    local other = member:sub(15)  -- without the time
    members[#members + 1], others[#others + 1] = member, other
    for i = last + 1, further do leave(KEYS[i], member) end
    for i = further + 1, following - 1 do leave(KEYS[i], other) end
  end
  k = following
end
if gone[1] then
  -- The documents go first, so that an error half-way leaves no document without its index entries.
  redis.call('UNLINK', unpack(gone))
  for i = 1, by_time do redis.call('ZREM', KEYS[i], unpack(members)) end
  for i = by_time + 1, common do redis.call('ZREM', KEYS[i], unpack(others)) end
  for key, found in pairs(left) do redis.call('ZREM', key, unpack(found)) end
  if ARGV[2] ~= '' and redis.call('EXISTS', KEYS[k]) == 0 then
    redis.call('ZREM', KEYS[k + 1], ARGV[2])
  end
end
return reply
""",
)

# Deletes a document in a cluster. KEYS: document, journal, the keys of its log. ARGV: version and
# revision that the document must have, and the time `before`; "" allows any.
# Returns whether the document was deleted, then what `removable` does; or only what `kept` does.
ABANDON = Script(
    _KEPT,
    REMOVABLE,
    """
local stored = redis.call('HMGET', KEYS[1], 'version', 'entries', 'revision')
if ARGV[1] ~= '' and stored[1] and (stored[1] ~= ARGV[1]
    or (ARGV[2] ~= '' and stored[3] ~= ARGV[2])) then
  return {0}
end
local answer = kept(KEYS[1], ARGV[3])
if answer then return {answer} end
if stored[1] and stored[2] then
  redis.call('HSET', KEYS[2], stored[1], '-' .. stored[2])
end
local journal = redis.call('HGETALL', KEYS[2])
for i = 1, #journal, 2 do
  redis.call('HSET', KEYS[2], journal[i], '-' .. journal[i + 1]:sub(2))
end
local reply = {redis.call('UNLINK', KEYS[1])}
for i = 3, #KEYS do redis.call('UNLINK', KEYS[i]) end
for _, value in ipairs(removable(KEYS[2])) do reply[#reply + 1] = value end
return reply
""",
)
