"""Reading the logs of sessions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

from agentx_persistence._redis.documents import Documents
from agentx_persistence._redis.log_scripts import DAMAGED, NO_ENTRY, NO_SESSION
from agentx_persistence._redis.pool import Argument, Command
from agentx_persistence._redis.read_scripts import LOOKUP, NEWEST, READ
from agentx_persistence.errors import CorruptRecordError, RecordNotFoundError
from agentx_persistence.storage import Found, Head, Slice, Window

# For how many logs one script reads the last entry.
_TOGETHER = 200


class LogReading(Documents):
    def _found(self, reply: Sequence[Any]) -> Found:
        _, count, generation, *rest = reply
        ids, places, texts = rest[::3], rest[1::3], rest[2::3]
        there = {
            id.decode(): (place, text) for id, place, text in zip(ids, places, texts, strict=True)
        }
        return Found(Head(count, generation.decode()), there)

    def _check(self, log: str, entry: str | None, reply: Any) -> None:
        if reply == NO_SESSION:
            raise RecordNotFoundError("session", log)
        if reply == NO_ENTRY:
            raise RecordNotFoundError("message", entry or "")
        if reply == DAMAGED:
            raise self._damaged_log(log)

    def lookup(self, log: str, ids: Sequence[str]) -> Found:
        arguments = [id.encode() for id in ids]
        names = self._keys.log(log)
        reply = self._connection.script(LOOKUP, ("session", log), names, arguments)
        self._check(log, None, reply)
        return self._found(reply)

    def newest(self, logs: Sequence[str]) -> dict[str, Slice]:
        # In a cluster, each log is on the server of its own slot.
        size = 1 if self._connection.cluster else _TOGETHER
        groups = [logs[start : start + size] for start in range(0, len(logs), size)]
        names = {log: self._keys.log(log)[:2] for log in logs}
        calls = [
            (("session", group[0]), [*chain.from_iterable(names[log] for log in group)], ())
            for group in groups
        ]
        replies = chain.from_iterable(self._connection.scripts(NEWEST, calls))
        found = {}
        for log, reply in zip(logs, replies, strict=True):
            if isinstance(reply, Exception):
                where = f"redis, keys of session {log!r}: {reply}"
                raise CorruptRecordError("session", log, where) from reply
            head = self._head(log, *reply[:4])
            if head is not None:
                texts = [] if reply[4] is None else [reply[4]]
                found[log] = Slice(texts, head.count, head)
        return found

    def _head(
        self,
        log: str,
        version: bytes | None,
        count: bytes | None,
        generation: bytes | None,
        length: int,
    ) -> Head | None:
        if version is None:
            return None
        if generation is None or (count or b"0") != b"%d" % length:
            raise self._damaged_log(log)
        return Head(length, generation.decode())

    def read(self, log: str, window: Window) -> Slice:
        after, before, first, last, size, headed = window
        if (
            isinstance(after, str)
            or before is not None
            or size is not None
            or (headed and first != 0 and self._connection.cluster)
            or (last is not None and (first is not None or after))
        ):
            return self._read(log, window)
        # Both ends as LRANGE takes them: counted from 0, the end included, -1 for the last entry.
        start, stop = after or 0, -1
        if last is not None:
            start = -last
        if first is not None:
            stop = start + first - 1
        if 0 in (first, last):
            start, stop = 1, 0
        document, messages, _ = self._keys.log(log)
        commands: list[Command] = [
            ("HMGET", document, "version", "count", "generation"),
            ("LRANGE", messages, start, stop),
            ("LLEN", messages),
        ]
        if headed:
            commands.append(("HMGET", document, "generation"))
        (version, count, generation), texts, length, *again = self._connection.pipeline(
            commands, [("session", log)] * len(commands)
        )
        if last:
            start = max(length - last, 0)
        wanted = range(length)[start : None if stop == -1 else stop + 1]
        if (
            version is None
            or (count or b"0") != b"%d" % length
            or len(texts) != len(wanted)
            or again not in ([], [[generation]])
        ):
            # The commands are not one step: another client may have changed the log between them.
            # An append changes the length, any other change the generation.
            return self._read(log, window)
        head = self._head(log, version, count, generation, length)
        return Slice(texts, start + 1, head)

    def _read(self, log: str, window: Window) -> Slice:
        limits = (window.first, window.last, window.size)
        arguments: list[Argument] = [*bound(window.after), *bound(window.before)]
        arguments += ["" if limit is None else limit for limit in limits]
        names = self._keys.log(log)
        reply = self._connection.script(READ, ("session", log), names, arguments)
        self._check(log, None, reply)
        if reply[0] == NO_ENTRY:
            raise RecordNotFoundError("message", reply[1].decode())
        count, generation, start, texts = reply
        return Slice(texts, start, Head(count, generation.decode()))

    def _damaged_log(self, log: str) -> CorruptRecordError:
        document, messages, positions = (key.decode() for key in self._keys.log(log))
        return CorruptRecordError(
            "session",
            log,
            f"redis, the numbers of entries in the keys {messages!r} and {positions!r} differ from "
            f"the field 'count' of {document!r}",
        )


def bound(place: str | int | None) -> tuple[Argument, Argument]:
    if isinstance(place, str):
        return "id", place.encode()
    return "", "" if place is None else place
