from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from redis import Redis
from redis.client import NEVER_DECODE
from redis.exceptions import NoScriptError

from benchmarks.raw.store import RawStore

# KEYS: session, messages, ids. ARGV: updated_at, then id and text of each message.
_APPEND = """
if redis.call('EXISTS', KEYS[1]) == 0 then return -1 end
local length = redis.call('LLEN', KEYS[2])
if #ARGV == 3 then
  local there = redis.call('HGET', KEYS[3], ARGV[2])
  if there then
    if redis.call('LINDEX', KEYS[2], there - 1) ~= ARGV[3] then return -2 end
    return tonumber(there)
  end
  redis.call('RPUSH', KEYS[2], ARGV[3])
  redis.call('HSET', KEYS[3], ARGV[2], length + 1)
  redis.call('HSET', KEYS[1], 'updated_at', ARGV[1])
  return length + 1
end
local ids, texts, places = {}, {}, {}
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
  redis.call('HSET', KEYS[1], 'updated_at', ARGV[1])
end
return length + #texts
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

# KEYS: image. ARGV: the text that was read, the new one.
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
for _, session in ipairs(redis.call('SMEMBERS', KEYS[3])) do
  redis.call('UNLINK', 'raw:s:' .. session, 'raw:m:' .. session, 'raw:i:' .. session)
end
redis.call('UNLINK', KEYS[1], KEYS[3])
"""


class RawRedis(RawStore):
    """For one server: a cluster would refuse keys that are made up inside of a script."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._shas: dict[str, str] = {}

    def save_session(self, session_id: str, image_id: str, text: str) -> None:
        pipe = self._client.pipeline()
        pipe.hset(f"raw:s:{session_id}", mapping={"text": text, "updated_at": 0})
        pipe.sadd(f"raw:sessions:{image_id}", session_id)
        pipe.execute()

    def append(self, session_id: str, messages: Sequence[tuple[str, str]], at: int) -> int:
        keys = (f"raw:s:{session_id}", f"raw:m:{session_id}", f"raw:i:{session_id}")
        flat = [part for message in messages for part in message]
        position = self._script(_APPEND, 3, *keys, at, *flat)
        if position < 0:
            raise LookupError(session_id)
        return int(position)

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

    def save_image(self, id: str, container_id: str, name: str, at: int, text: str) -> None:
        indexes = (f"c:{container_id}", f"n:{name}", f"b:{container_id}\0{name}")
        keys = (f"raw:image:{id}", "raw:images", *(f"raw:images:{index}" for index in indexes))
        self._script(_SAVE_IMAGE, 5, *keys, text, -at, id, container_id, name)

    def get_image(self, id: str) -> Any:
        return json.loads(self._bytes("HGET", f"raw:image:{id}", "text"))

    def page(self, container_id: str, size: int) -> list[Any]:
        ids = self._client.zrange(f"raw:images:c:{container_id}", 0, size)
        pipe = self._client.pipeline(transaction=False)
        for id in ids[:size]:
            pipe.hget(b"raw:image:" + id, "text")
        return [json.loads(text) for text in pipe.execute()]

    def update_metadata(self, image_id: str, key: str, value: Any) -> None:
        while True:
            text = self._bytes("HGET", f"raw:image:{image_id}", "text")
            image = json.loads(text)
            image.setdefault("metadata", {})[key] = value
            if self._script(_REPLACE, 1, f"raw:image:{image_id}", text, json.dumps(image)):
                return

    def delete_image(self, image_id: str) -> None:
        keys = (f"raw:image:{image_id}", "raw:images", f"raw:sessions:{image_id}")
        self._script(_DELETE_IMAGE, 3, *keys, image_id)

    def close(self) -> None:
        """The client is the caller's."""

    def _script(self, lua: str, *rest: Any) -> Any:
        sha = self._shas.get(lua) or self._shas.setdefault(
            lua, hashlib.sha1(lua.encode(), usedforsecurity=False).hexdigest()
        )
        try:
            return self._client.execute_command("EVALSHA", sha, *rest)
        except NoScriptError:
            return self._client.execute_command("EVAL", lua, *rest)

    def _bytes(self, *command: Any) -> Any:
        return self._client.execute_command(*command, **{NEVER_DECODE: []})
