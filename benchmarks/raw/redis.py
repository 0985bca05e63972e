from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from redis import Redis

from benchmarks.raw import Raw, decoded, parts


class RawRedis(Raw):
    """For one server: a cluster would refuse keys that are made up inside of a script."""

    def __init__(self, client: Redis) -> None:
        self._client, self._ask = client, client.execute_command
        beginning, *scripts = parts("redis.lua").items()
        self._shas = {name: client.script_load(beginning[1] + lua) for name, lua in scripts}

    def save(self, kind: str, *document: Any) -> None:
        keys, arguments = _saved(kind, *document)
        self._script("save", len(keys), *keys, *arguments)

    def append(self, session_id: str, messages: Sequence[tuple[str, str]], at: int) -> int:
        flat = [part for message in messages for part in message]
        return int(self._change("append", session_id, at, *flat))

    def _change(self, name: str, session_id: str, *arguments: Any) -> Any:
        keys = (f"raw:sessions:{session_id}", f"raw:m:{session_id}", f"raw:i:{session_id}")
        answer = self._script(name, 3, *keys, *arguments)
        if answer is None or answer == -1 or answer == -2:
            raise LookupError(session_id)
        return answer

    def _texts(self, session_id: str, last: int | None) -> Any:
        texts = self._ask("LRANGE", f"raw:m:{session_id}", -(last or 0), -1)
        if not texts and not self._client.exists(f"raw:sessions:{session_id}"):
            raise LookupError(session_id)
        return texts

    def _part(self, session_id: str, read: int) -> Any:
        return self._ask("LRANGE", f"raw:m:{session_id}", read, read + 199)

    def rewrite(self, session_id: str, after: str, id: str, text: str, at: int) -> list[Any]:
        replaced = 0
        while not replaced:
            removed = decoded(self._change("tail", session_id, at, after))
            ids = [message["id"] for message in removed]
            replaced = self._change("rewrite", session_id, at, after, id, text, *ids)
        return removed

    def pop(self, session_id: str, at: int) -> Any:
        popped = 0
        while not popped:
            message = json.loads(self._ask("LINDEX", f"raw:m:{session_id}", -1))
            popped = self._change("pop", session_id, at, message["id"])
        return message

    def fork(self, session_id: str, *new: Any) -> int:
        keys, arguments = _saved("sessions", *new)
        copied = int(self._script("fork", len(keys), *keys, *arguments, session_id))
        if copied < 0:
            raise LookupError(session_id)
        return copied

    def page(self, kind: str, owner: str, size: int) -> list[Any]:
        index, fields = (1, ("text",)) if kind == "images" else ("active", ("text", "updated_at"))
        ids: Any = self._client.zrange(f"raw:{kind} {index}:{owner}", 0, size)
        pipe = self._client.pipeline(transaction=False)
        for id in ids[:size]:
            pipe.hmget(f"raw:{kind}:".encode() + id, *fields)
        if kind == "images":
            return [json.loads(text) for (text,) in pipe.execute()]
        return [{**json.loads(text), "updatedAt": int(at)} for text, at in pipe.execute()]

    def summaries(self, session_ids: Sequence[str]) -> dict[str, tuple[int, Any]]:
        found = zip(session_ids, self._script("summaries", 0, *session_ids), strict=True)
        return {id: (row[0], row[1] and json.loads(row[1])) for id, row in found if row}

    def delete_image(self, id: str) -> None:
        self._script("delete image", 2, f"raw:images:{id}", f"raw:sessions 2:{id}", id)

    def _text(self, kind: str, key: str) -> Any:
        return self._ask("HGET", f"raw:{kind}:{key}", "text")

    def _replace(self, kind: str, key: str, text: Any, new: str) -> bool:
        return bool(self._script("replace", 1, f"raw:{kind}:{key}", text, new))

    def _script(self, name: str, *rest: Any) -> Any:
        return self._ask("EVALSHA", self._shas[name], *rest)


def _saved(kind: str, key: str, text: str, at: int, first: str, second: str) -> tuple[Any, ...]:
    """Return the keys and arguments with which a document is saved."""
    scores = {f"raw:{kind}": -at, f"raw:{kind} 1:{first}": -at, f"raw:{kind} 2:{second}": -at}
    fields: tuple[Any, ...] = ()
    if kind == "images":
        scores[f"raw:images both:{first}\x1f{second}"] = -at
    elif kind == "sessions":
        scores[f"raw:sessions active:{first}"] = -(at // 1000)
        fields = "updated_at", at, "container_id", first
    else:  # items are found by key and by time
        scores = {"raw:items": 0, f"raw:items 1:{first}": -at}
    return [f"raw:{kind}:{key}", *scores], [text, key, *scores.values(), *fields]
