"""The logs of sessions."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain, pairwise
from typing import Any, NamedTuple

from agentx_persistence._redis.connection import Connection
from agentx_persistence._redis.documents import Documents
from agentx_persistence._redis.indexing import ATTEMPTS, Indexing, contended
from agentx_persistence._redis.keys import Entries, Keys, member
from agentx_persistence._redis.log_scripts import (
    AGAIN,
    COPY,
    COPY_FIRST,
    COPY_IN,
    COPY_OUT,
    DAMAGED,
    ELSEWHERE,
    FOUND,
    LOOKUP,
    MOVED,
    NEWEST,
    NO_ENTRY,
    NO_SESSION,
    READ,
    TAKEN,
    LogScripts,
)
from agentx_persistence._redis.pool import Argument, Command
from agentx_persistence._redis.scripts import Script
from agentx_persistence.errors import CorruptRecordError, RecordNotFoundError
from agentx_persistence.storage import (
    Document,
    Entry,
    Found,
    Head,
    Slice,
    Window,
)

_COPY_CHUNK = 5000
# For so many sessions it is remembered in which index of active ones they are.
_REMEMBERED = 10_000


class _Activity(NamedTuple):
    """The index of active sessions in which a session of this version is."""

    version: bytes
    key: bytes


class Logs:
    def __init__(
        self, connection: Connection, keys: Keys, indexing: Indexing, documents: Documents
    ) -> None:
        self._connection, self._keys = connection, keys
        self._indexing, self._documents = indexing, documents
        self._scripts = LogScripts(cluster=connection.cluster)
        self._active: OrderedDict[str, _Activity] = OrderedDict()

    def append(
        self,
        log: str,
        entries: Sequence[Entry],
        at: int,
        create: Document | None,
        expected: int | None,
        generation: str | None,
    ) -> int | Found:
        flat = _flat(entries)

        def run(keys: Sequence[bytes], write: Sequence[Argument]) -> Any:
            rest = [len(write), *write, *flat]
            return self._write(self._scripts.append, log, at, rest, keys, expected, generation)

        # A session that is remembered is there as a rule.
        reply = NO_SESSION
        if create is None or self._connection.cluster or log in self._active:
            reply = run((), ())
        if reply == NO_SESSION and create is not None:
            updated_at = max(create.updated_at, at) if entries else create.updated_at
            reply = self._indexing.create(create, updated_at, run)
        return self._answer(log, None, reply)

    def rewrite(
        self,
        log: str,
        after: str | int | None,
        entries: Sequence[Entry],
        at: int,
        token: str,
        expected: int | None,
        generation: str | None,
    ) -> int | Found:
        flat, name = _flat(entries), after if isinstance(after, str) else f"#{after}"
        copy, copied = self._keys.forked(log, token), ""
        for _ in range(ATTEMPTS):
            rest: list[Argument] = [token, *_bound(after or 0), copied, *flat]
            keys = copy if copied else ()
            reply = self._write(self._scripts.rewrite, log, at, rest, keys, expected, generation)
            if not isinstance(reply, list) or reply[0] != COPY_FIRST:
                return self._answer(log, name, reply)
            copied = reply[2].decode()
            self._copy(log, copy, copied, reply[1], log)
        raise contended(copy[0])

    def swap(self, log: str, entry: Entry, at: int, token: str) -> None:
        rest: list[Argument] = [token, entry.id.encode(), entry.text.encode()]
        self._answer(log, entry.id, self._write(self._scripts.swap, log, at, rest, [], None, None))

    def _write(
        self,
        script: Script,
        log: str,
        at: int,
        rest: Sequence[Argument],
        keys: Sequence[bytes],
        expected: int | None,
        generation: str | None,
    ) -> Any:
        """Run a script that changes the log, and the index of active sessions with it."""
        names, cluster = self._keys.log(log), self._connection.cluster
        guards = ("" if expected is None else expected, "" if generation is None else generation)
        for _ in range(ATTEMPTS):
            known = self._active.get(log) or _Activity(b"", names[0])
            active = () if cluster else (known.key,)
            reply = self._connection.script(
                script,
                ("session", log),
                [*names, *active, *keys],
                [at, known.version, log.encode(), *guards, *rest],
            )
            if not isinstance(reply, list) or reply[0] in (FOUND, COPY_FIRST):
                return reply
            if reply[0] == MOVED:
                _, answer, score, version, entries = reply
                active_key = known.key if entries is None else self._learn(log, version, entries)
                if active_key is not None:
                    place = member(log.encode(), version)
                    # XX: a session that has moved or gone since is not entered again.
                    self._connection.command(("ZADD", active_key, "XX", "LT", score, place))
                return answer
            assert reply[0] == ELSEWHERE
            if self._learn(log, reply[1], reply[2]) is None:
                return DAMAGED
        raise contended(names[0])

    def _learn(self, log: str, version: bytes, entries: bytes | None) -> bytes | None:
        """Remember in which index of active sessions this session is; return its key."""
        if entries is None:
            return None
        container = Entries.load(entries).fields.get("container_id")
        # A session without a container is in none: any key will do.
        key = self._keys.log(log)[0] if container is None else self._keys.active(container)
        self._active[log] = _Activity(version, key)
        if len(self._active) > _REMEMBERED:
            with suppress(KeyError):  # other threads can empty it
                self._active.popitem(last=False)
        return key

    def _answer(self, log: str, entry: str | None, reply: Any) -> int | Found:
        self._check(log, entry, reply)
        if isinstance(reply, list):
            return self._found(reply)
        assert isinstance(reply, int)
        return reply

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
            raise self._damaged(log)

    def lookup(self, log: str, ids: Sequence[str]) -> Found:
        arguments = [id.encode() for id in ids]
        names = self._keys.log(log)
        reply = self._connection.script(LOOKUP, ("session", log), names, arguments)
        self._check(log, None, reply)
        return self._found(reply)

    def newest(self, logs: Sequence[str]) -> dict[str, Slice]:
        calls = [(("session", log), self._keys.log(log)[:2], ()) for log in logs]
        found = {}
        replies = self._connection.scripts(NEWEST, calls)
        for log, reply in zip(logs, replies, strict=True):
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
        if generation is None or int(count or 0) != length:
            raise self._damaged(log)
        return Head(length, generation.decode())

    def read(self, log: str, window: Window) -> Slice:
        after, before, first, last, size, headed = window
        if (
            isinstance(after, str)
            or before is not None
            or size is not None
            or (headed and first != 0)
            or (last is not None and (first is not None or after))
        ):
            return self._read(log, window)
        # Both ends as LRANGE counts them: from 0, the end included, -1 for the last entry.
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
        (version, count, generation), texts, length = self._connection.pipeline(
            commands, [("session", log)] * 3
        )
        if version is None or int(count or 0) != length:
            # Three commands are not one step: another client may have come between.
            return self._read(log, window)
        head = self._head(log, version, count, generation, length)
        if last:
            start = max(length - last, 0)
        return Slice(texts, start + 1, head)

    def _read(self, log: str, window: Window) -> Slice:
        arguments: list[Argument] = []
        for bound in (window.after, window.before):
            arguments += _bound(bound)
        arguments += ["" if n is None else n for n in (window.first, window.last, window.size)]
        names = self._keys.log(log)
        reply = self._connection.script(READ, ("session", log), names, arguments)
        self._check(log, None, reply)
        if reply[0] == NO_ENTRY:
            raise RecordNotFoundError("message", reply[1].decode())
        count, generation, start, texts = reply
        return Slice(texts, start, Head(count, generation.decode()))

    def fork(self, log: str, through: str | None, document: Document) -> int | None:
        key = document.key
        copy = self._keys.forked(key, document.revision)

        def run(keys: Sequence[bytes], write: Sequence[Argument]) -> Any:
            names, arguments = [*self._keys.log(key), *copy, *keys], [count, *write]
            subject = ("session", key)
            return self._connection.script(self._scripts.fork, subject, names, arguments, _taken)

        for _ in range(ATTEMPTS):
            found = self.lookup(log, [] if through is None else [through])
            if through is not None and through not in found.there:
                raise RecordNotFoundError("message", through)
            count = found.head.count if through is None else found.there[through][0]
            if not self._copy(log, copy, found.head.generation, count, key):
                continue
            reply = self._indexing.create(document, document.updated_at, run)
            if reply == TAKEN:
                self._connection.pipeline([("UNLINK", each) for each in copy])
                return None
            if reply != AGAIN:
                self._check(key, None, reply)
                copied: int = reply
                return copied
        raise contended(self._keys.log(key)[0])

    def _copy(
        self, log: str, copy: tuple[bytes, bytes], generation: str, count: int, to: str
    ) -> bool:
        """Copy the first entries; return False if that has to begin anew."""
        self._connection.pipeline([("UNLINK", key) for key in copy])
        names, subject = self._keys.log(log), ("session", log)
        ends = [*range(0, count, _COPY_CHUNK), count]
        for start, stop in pairwise(ends):
            chunk: list[Argument] = [generation, start + 1, stop]
            if self._connection.cluster and to != log:
                reply = self._connection.script(COPY_OUT, subject, names, chunk)
                if isinstance(reply, list):
                    texts, ids = reply
                    if not len(texts) == len(ids) == stop - start:
                        raise self._damaged(log)
                    flat = chain.from_iterable(zip(ids, texts, strict=True))
                    keys = [self._keys.log(to)[0], *copy]
                    reply = self._connection.script(COPY_IN, ("session", to), keys, [start, *flat])
            else:
                reply = self._connection.script(COPY, subject, [*names, *copy], chunk)
            self._check(log, None, reply)
            if reply != stop:
                return False
        return True

    def _damaged(self, log: str) -> CorruptRecordError:
        document, messages, positions = (key.decode() for key in self._keys.log(log))
        return CorruptRecordError(
            "session",
            log,
            f"redis, the keys {messages!r} and {positions!r} have not as many entries as the "
            f"field 'count' of {document!r} says",
        )


def _taken(reply: Any) -> bool:
    return bool(reply == TAKEN)


def _bound(bound: str | int | None) -> tuple[Argument, Argument]:
    if isinstance(bound, str):
        return "id", bound.encode()
    return "", "" if bound is None else bound


def _flat(entries: Sequence[Entry]) -> list[bytes]:
    return [value.encode() for entry in entries for value in entry[:2]]
