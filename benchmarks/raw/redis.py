from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

from redis import Redis
from redis.client import NEVER_DECODE
from redis.exceptions import NoScriptError

# Scripts that change a session. KEYS: session, messages, ids. ARGV begin with the time. The index
# of active sessions changes at most once a second.
_HEAD = """
local head = redis.call('HMGET', KEYS[1], 'updated_at', 'container_id')
if not head[1] then return -1 end
local function touch()
  local second = math.floor(ARGV[1] / 1000)
  if math.floor(head[1] / 1000) ~= second then
    redis.call('ZADD', 'raw:active:' .. head[2], -second, KEYS[1]:sub(7))
  end
  redis.call('HSET', KEYS[1], 'updated_at', ARGV[1])
end
"""
# ARGV: then id and text of each message.
_APPEND = f"""{_HEAD}
local length = redis.call('LLEN', KEYS[2])
if #ARGV == 3 then
  local there = redis.call('HGET', KEYS[3], ARGV[2])
  if there then
    if redis.call('LINDEX', KEYS[2], there - 1) ~= ARGV[3] then return -2 end
    return tonumber(there)
  end
  redis.call('RPUSH', KEYS[2], ARGV[3])
  redis.call('HSET', KEYS[3], ARGV[2], length + 1)
  touch()
  return length + 1
end
local ids, texts, places = {{}}, {{}}, {{}}
for i = 2, #ARGV, 2 do ids[i / 2] = ARGV[i] end
for i, place in ipairs(redis.call('HMGET', KEYS[3], unpack(ids))) do
  local text = ARGV[2 * i + 1]
  if place then
    if redis.call('LINDEX', KEYS[2], place - 1) ~= text then return -2 end
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
"""
# KEYS: messages, ids. ARGV: the id of the last message that stays. Returns those after it.
_TAIL = """
local kept = redis.call('HGET', KEYS[2], ARGV[1])
return kept and redis.call('LRANGE', KEYS[1], kept, -1)
"""
# ARGV: then the id of the last message that stays, id and text of the new one, the ids that were
# read after it. Returns 0 if there are others by now.
_REWRITE = f"""{_HEAD}
local kept = tonumber(redis.call('HGET', KEYS[3], ARGV[2]) or nil)
local there = tonumber(redis.call('HGET', KEYS[3], ARGV[3]) or nil)
if not kept or there and there <= kept then return -2 end
local length = redis.call('LLEN', KEYS[2])
if length ~= kept + #ARGV - 4 then return 0 end
if length > kept and tonumber(redis.call('HGET', KEYS[3], ARGV[#ARGV]) or 0) ~= length then
  return 0
end
for i = 5, #ARGV do redis.call('HDEL', KEYS[3], ARGV[i]) end
redis.call('LTRIM', KEYS[2], 0, kept - 1)
redis.call('RPUSH', KEYS[2], ARGV[4])
redis.call('HSET', KEYS[3], ARGV[3], kept + 1)
touch()
return 1
"""
# ARGV: then the id of the newest message that was read. Returns 0 if it is another one by now.
_POP = f"""{_HEAD}
local place = tonumber(redis.call('HGET', KEYS[3], ARGV[2]) or nil)
if place ~= redis.call('LLEN', KEYS[2]) then return 0 end
redis.call('RPOP', KEYS[2])
redis.call('HDEL', KEYS[3], ARGV[2])
touch()
return 1
"""
# ARGV: id, container, image, time and text of the session, the one whose messages it gets (or "").
_SAVE_SESSION = """
local id, new = ARGV[1], 'raw:s:' .. ARGV[1]
if ARGV[6] ~= '' then
  if redis.call('EXISTS', 'raw:s:' .. ARGV[6]) == 0 or redis.call('EXISTS', new) == 1 then
    return -1
  end
  redis.call('COPY', 'raw:m:' .. ARGV[6], 'raw:m:' .. id)
  redis.call('COPY', 'raw:i:' .. ARGV[6], 'raw:i:' .. id)
end
redis.call('HSET', new, 'text', ARGV[5], 'container_id', ARGV[2], 'updated_at', ARGV[4])
redis.call('ZADD', 'raw:sessions', -ARGV[4], id)
redis.call('ZADD', 'raw:sessions:c:' .. ARGV[2], -ARGV[4], id)
redis.call('ZADD', 'raw:sessions:i:' .. ARGV[3], -ARGV[4], id)
redis.call('ZADD', 'raw:active:' .. ARGV[2], -math.floor(ARGV[4] / 1000), id)
return redis.call('LLEN', 'raw:m:' .. id)
"""
_SUMMARIES = """
local found = {}
for i, id in ipairs(ARGV) do
  found[i] = redis.call('EXISTS', 'raw:s:' .. id) == 1 and
    {redis.call('LLEN', 'raw:m:' .. id), redis.call('LINDEX', 'raw:m:' .. id, -1)}
end
return found
"""

# KEYS: image, index of all, of the container, of the name, of both. ARGV: text, negative created_at
# (so that ids are in order where times are equal), id, container_id, name.
_SAVE_IMAGE = """
local old = redis.call('HMGET', KEYS[1], 'container_id', 'name')
if old[1] and (old[1] ~= ARGV[4] or old[2] ~= ARGV[5]) then
  redis.call('ZREM', 'raw:images:c:' .. old[1], ARGV[3])
  redis.call('ZREM', 'raw:images:n:' .. old[2], ARGV[3])
  redis.call('ZREM', 'raw:images:b:' .. old[1] .. '\\0' .. old[2], ARGV[3])
end
for i = 2, 5 do redis.call('ZADD', KEYS[i], ARGV[2], ARGV[3]) end
redis.call('HSET', KEYS[1], 'text', ARGV[1], 'container_id', ARGV[4], 'name', ARGV[5])
"""

# KEYS: a document. ARGV: the text that was read, the new one.
_REPLACE = """
if redis.call('HGET', KEYS[1], 'text') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'text', ARGV[2])
return 1
"""

# KEYS: image, index of all, its sessions. ARGV: id.
_DELETE_IMAGE = """
local old = redis.call('HMGET', KEYS[1], 'container_id', 'name')
if old[1] then
  redis.call('ZREM', KEYS[2], ARGV[1])
  redis.call('ZREM', 'raw:images:c:' .. old[1], ARGV[1])
  redis.call('ZREM', 'raw:images:n:' .. old[2], ARGV[1])
  redis.call('ZREM', 'raw:images:b:' .. old[1] .. '\\0' .. old[2], ARGV[1])
end
for _, session in ipairs(redis.call('ZRANGE', KEYS[3], 0, -1)) do
  local container = redis.call('HGET', 'raw:s:' .. session, 'container_id')
  redis.call('ZREM', 'raw:sessions', session)
  redis.call('ZREM', 'raw:sessions:c:' .. container, session)
  redis.call('ZREM', 'raw:active:' .. container, session)
  redis.call('UNLINK', 'raw:s:' .. session, 'raw:m:' .. session, 'raw:i:' .. session)
end
redis.call('UNLINK', KEYS[1], KEYS[3])
"""

# KEYS: item, index of all by key, index of its namespace by time. ARGV: text, key, negative time.
_SAVE_ITEM = """
redis.call('HSET', KEYS[1], 'text', ARGV[1])
redis.call('ZADD', KEYS[2], 0, KEYS[1])
redis.call('ZADD', KEYS[3], ARGV[3], ARGV[2])
"""


class RawRedis:
    """For one server: a cluster would refuse keys that are made up inside of a script."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._shas: dict[str, str] = {}

    def save_session(self, *session: Any) -> None:
        self._script(_SAVE_SESSION, 0, *session, "")

    def save_sessions(self, sessions: Sequence[Sequence[Any]]) -> None:
        for session in sessions:
            self.save_session(*session)

    def append(self, session_id: str, messages: Sequence[tuple[str, str]], at: int) -> int:
        flat = [part for message in messages for part in message]
        return int(self._change(_APPEND, session_id, at, *flat))

    def _change(self, script: str, session_id: str, *arguments: Any) -> Any:
        keys = (f"raw:s:{session_id}", f"raw:m:{session_id}", f"raw:i:{session_id}")
        answer = self._script(script, 3, *keys, *arguments)
        if answer is None or answer == -1 or answer == -2:
            raise LookupError(session_id)
        return answer

    def load(self, session_id: str, last: int | None = None) -> list[Any]:
        start = 0 if last is None else -last
        texts = self._bytes("LRANGE", f"raw:m:{session_id}", start, -1)
        if not texts and not self._client.exists(f"raw:s:{session_id}"):
            raise LookupError(session_id)
        return [json.loads(text) for text in texts]

    def stream(self, session_id: str) -> int:
        read = 0
        while texts := self._bytes("LRANGE", f"raw:m:{session_id}", read, read + 199):
            for text in texts:
                json.loads(text)
            read += len(texts)
        return read

    def rewrite(self, session_id: str, after: str, id: str, text: str, at: int) -> list[Any]:
        replaced = 0
        while not replaced:
            keys = f"raw:m:{session_id}", f"raw:i:{session_id}"
            texts = self._script(_TAIL, 2, *keys, after)
            if texts is None:
                raise LookupError(after)
            removed = [json.loads(each) for each in texts]
            ids = [message["id"] for message in removed]
            replaced = self._change(_REWRITE, session_id, at, after, id, text, *ids)
        return removed

    def pop(self, session_id: str, at: int) -> Any:
        popped = 0
        while not popped:
            message = json.loads(self._bytes("LINDEX", f"raw:m:{session_id}", -1))
            popped = self._change(_POP, session_id, at, message["id"])
        return message

    def fork(self, session_id: str, *new: Any) -> int:
        copied = int(self._script(_SAVE_SESSION, 0, *new, session_id))
        if copied < 0:
            raise LookupError(session_id)
        return copied

    def active(self, container_id: str, size: int) -> list[Any]:
        found = self._listed(f"raw:active:{container_id}", size, "raw:s:", "text", "updated_at")
        return [{**json.loads(text), "updatedAt": int(at)} for text, at in found]

    def summaries(self, session_ids: Sequence[str]) -> dict[str, tuple[int, Any]]:
        found = zip(session_ids, self._script(_SUMMARIES, 0, *session_ids), strict=True)
        return {id: (row[0], row[1] and json.loads(row[1])) for id, row in found if row}

    def save_image(self, *image: Any) -> None:
        id, container_id, name, at, text = image
        indexes = (f"c:{container_id}", f"n:{name}", f"b:{container_id}\0{name}")
        keys = (f"raw:image:{id}", "raw:images", *(f"raw:images:{index}" for index in indexes))
        self._script(_SAVE_IMAGE, 5, *keys, text, -at, id, container_id, name)

    def save_images(self, images: Sequence[Sequence[Any]]) -> None:
        for image in images:
            self.save_image(*image)

    def get_image(self, id: str) -> Any:
        return json.loads(self._bytes("HGET", f"raw:image:{id}", "text"))

    def page(self, container_id: str, size: int) -> list[Any]:
        found = self._listed(f"raw:images:c:{container_id}", size, "raw:image:", "text")
        return [json.loads(text) for (text,) in found]

    def _listed(self, index: str, size: int, prefix: str, *fields: str) -> list[Any]:
        ids: Any = self._client.zrange(index, 0, size)
        pipe = self._client.pipeline(transaction=False)
        for id in ids[:size]:
            pipe.hmget(prefix.encode() + id, *fields)
        return pipe.execute()

    def update_image(self, id: str, change: Callable[[Any], object]) -> None:
        self._update(f"raw:image:{id}", change)

    def delete_image(self, id: str) -> None:
        keys = (f"raw:image:{id}", "raw:images", f"raw:sessions:i:{id}")
        self._script(_DELETE_IMAGE, 3, *keys, id)

    def save_item(self, namespace: str, key: str, at: int, text: str) -> None:
        keys = (f"raw:item:{namespace}{key}", "raw:items", f"raw:items:{namespace}")
        self._script(_SAVE_ITEM, 3, *keys, text, key, -at)

    def get_item(self, namespace: str, key: str) -> Any:
        return json.loads(self._bytes("HGET", f"raw:item:{namespace}{key}", "text"))

    def update_item(self, namespace: str, key: str, change: Callable[[Any], object]) -> None:
        self._update(f"raw:item:{namespace}{key}", change)

    def _update(self, key: str, change: Callable[[Any], object]) -> None:
        replaced = 0
        while not replaced:
            text = self._bytes("HGET", key, "text")
            document = json.loads(text)
            change(document)
            replaced = self._script(_REPLACE, 1, key, text, json.dumps(document))

    def _script(self, lua: str, *rest: Any) -> Any:
        sha = self._shas.get(lua) or self._shas.setdefault(
            lua, hashlib.sha1(lua.encode(), usedforsecurity=False).hexdigest()
        )
        try:
            return self._bytes("EVALSHA", sha, *rest)
        except NoScriptError:
            return self._bytes("EVAL", lua, *rest)

    def _bytes(self, *command: Any) -> Any:
        return self._client.execute_command(*command, **{NEVER_DECODE: []})
