"""The Lua scripts that read logs. Their KEYS begin like those in `log_scripts`."""

from __future__ import annotations

from agentx_persistence._redis.log_scripts import HEAD, THERE
from agentx_persistence._redis.scripts import Script

# KEYS: document and messages of each log. Returns for each version, count, generation, length, and
# the last text, or an error in their place.
NEWEST = Script("""
local reply = {}
for i = 1, #KEYS, 2 do
  local found = redis.pcall('HMGET', KEYS[i], 'version', 'count', 'generation')
  local length = redis.pcall('LLEN', KEYS[i + 1])
  if not found.err and type(length) ~= 'table' then
    found[4], found[5] = length, redis.call('LINDEX', KEYS[i + 1], -1)
  end
  reply[#reply + 1] = type(length) == 'table' and length or found
end
return reply
""")

# ARGV: the ids.
LOOKUP = Script(THERE, HEAD, "return there(found, count, count, 1, 1)")

# ARGV: "id" or "", and the entry to start after; the same for the entry to stop before; `first`,
# `last` and `size` of the window (each may be "").
# Returns count and generation of the log, the position of the first text, and the texts; or -3 and
# an id that the log does not have.
READ = Script(
    HEAD,
    """
if redis.call('LLEN', KEYS[2]) ~= count then return -2 end
local bounds = {0, count + 1}
for i = 1, 2 do
  local named = ARGV[2 * i]
  if ARGV[2 * i - 1] == 'id' then
    bounds[i] = tonumber(redis.call('ZSCORE', KEYS[3], named) or nil)
    if not bounds[i] then return {-3, named} end
  elseif named ~= '' then
    bounds[i] = i == 1 and tonumber(named) or math.min(tonumber(named), count + 1)
  end
end
local low, high = bounds[1] + 1, bounds[2] - 1
if ARGV[5] ~= '' then high = math.min(high, low + ARGV[5] - 1) end
if ARGV[6] ~= '' then low = math.max(low, high - ARGV[6] + 1) end
if low > high then return {count, found[4], low, {}} end
local size, texts = tonumber(ARGV[7]), {}
if not size then
  return {count, found[4], low, redis.call('LRANGE', KEYS[2], low - 1, high - 1)}
end
local function take(text)
  size = size - #text
  if size < 0 and texts[1] then return false end
  texts[#texts + 1] = text
  return true
end
local step = 16
if ARGV[6] == '' then
  for start = low, high, step do
    local stop = math.min(start + step - 1, high)
    for _, text in ipairs(redis.call('LRANGE', KEYS[2], start - 1, stop - 1)) do
      if not take(text) then return {count, found[4], low, texts} end
    end
  end
  return {count, found[4], low, texts}
end
local full = false
for stop = high, low, -step do
  local some = redis.call('LRANGE', KEYS[2], math.max(stop - step + 1, low) - 1, stop - 1)
  for i = #some, 1, -1 do
    full = full or not take(some[i])
  end
  if full then break end
end
local n = #texts
for i = 1, math.floor(n / 2) do texts[i], texts[n - i + 1] = texts[n - i + 1], texts[i] end
return {count, found[4], high - n + 1, texts}
""",
)
