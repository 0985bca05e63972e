"""Changing the logs of sessions."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from agentx_persistence._redis.ahead import Ahead, grouped
from agentx_persistence._redis.connection import Call, Connection
from agentx_persistence._redis.copy_scripts import COPY, COPY_IN, COPY_OUT, ForkScripts
from agentx_persistence._redis.indexing import ATTEMPTS, contended
from agentx_persistence._redis.keys import Entries, member
from agentx_persistence._redis.log_reading import LogReading, bound
from agentx_persistence._redis.log_scripts import (
    AGAIN,
    COPY_FIRST,
    DAMAGED,
    ELSEWHERE,
    FOUND,
    MOVED,
    NO_SESSION,
    TAKEN,
    LogScripts,
)
from agentx_persistence._redis.pool import Argument
from agentx_persistence._redis.scripts import Script
from agentx_persistence.errors import RecordNotFoundError
from agentx_persistence.storage import Addition, Document, Entry, Found

_COPY_CHUNK = 5000
# For how many sessions `Logs` remembers the index of active sessions that contains them.
_REMEMBERED = 10_000


class _Activity(NamedTuple):
    """The index of active sessions that has a session while its entries have this version."""

    version: bytes
    key: bytes


class Logs(LogReading):
    def __init__(self, connection: Connection, base: str, limit: int) -> None:
        super().__init__(connection, base, limit)
        self._scripts = LogScripts(cluster=connection.cluster)
        self._forks = ForkScripts(cluster=connection.cluster)
        self._active: OrderedDict[str, _Activity] = OrderedDict()

    def append(
        self,
        log: str,
        entries: Sequence[Entry],
        at: int,
        *,
        create: Document | None = None,
        expected: int | None = None,
        generation: str | None = None,
    ) -> int | Found:
        flat = self._flat(entries)
        if create is not None:
            self._check_size("session", create.key, create.text)

        def run(keys: Sequence[bytes], write: Sequence[Argument]) -> Any:
            rest = [len(write), *write, *flat]
            return self._write(self._scripts.append, log, at, rest, keys, expected, generation)

        # A session that is remembered most likely exists, so that it need not be created.
        reply = NO_SESSION
        if create is None or self._connection.cluster or log in self._active:
            reply = run((), ())
        if reply == NO_SESSION and create is not None:
            updated_at = max(create.updated_at, at) if entries else create.updated_at
            reply = self._indexing.create(create, updated_at, run)
        return self._answer(log, None, reply)

    def append_each(self, additions: Iterable[Addition]) -> Iterator[int | Found]:
        if self._connection.cluster:
            yield from super().append_each(additions)
            return
        groups = Ahead(grouped(additions))
        for group in groups:
            calls = [self._addition(addition) for addition in group]
            replies = self._connection.scripts(self._scripts.append, calls, groups.take)
            for addition, reply in zip(group, replies, strict=True):
                if isinstance(reply, list) and reply[0] == ELSEWHERE:
                    log, entries, at, create, expected = addition
                    yield self.append(log, entries, at, create=create, expected=expected)
                else:
                    yield self._answer(addition.log, None, reply)

    def _addition(self, addition: Addition) -> Call:
        log, entries, at, create, expected = addition
        flat = self._flat(entries)

        def call(keys: Sequence[bytes], write: Sequence[Argument]) -> Call:
            rest = [len(write), *write, *flat]
            return self._call(log, at, self._known(log), rest, keys, expected, None)

        if create is None:
            return call((), ())
        self._check_size("session", create.key, create.text)
        updated_at = max(create.updated_at, at) if entries else create.updated_at
        made: Call = self._indexing.create(create, updated_at, call)
        return made

    def rewrite(
        self,
        log: str,
        after: str | int | None,
        entries: Sequence[Entry],
        at: int,
        token: str,
        *,
        expected: int | None = None,
        generation: str | None = None,
    ) -> int | Found:
        flat, name = self._flat(entries), after if isinstance(after, str) else f"#{after}"
        copy, copied = self._keys.forked(log, token), ""
        for _ in range(ATTEMPTS):
            rest: list[Argument] = [token, *bound(after or 0), copied, *flat]
            keys = copy if copied else ()
            reply = self._write(self._scripts.rewrite, log, at, rest, keys, expected, generation)
            if not isinstance(reply, list) or reply[0] != COPY_FIRST:
                return self._answer(log, name, reply)
            copied = reply[2].decode()
            self._copy(log, copy, copied, reply[1], log)
        raise contended(copy[0])

    def swap(self, log: str, entry: Entry, at: int, token: str) -> None:
        rest: list[Argument] = [token, *self._flat([entry])]
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
        for _ in range(ATTEMPTS):
            known = self._known(log)
            call = self._call(log, at, known, rest, keys, expected, generation)
            reply = self._connection.script(script, *call)
            if not isinstance(reply, list) or reply[0] in (FOUND, COPY_FIRST):
                return reply
            if reply[0] == MOVED:
                _, answer, score, version, entries = reply
                active_key = known.key if entries is None else self._learn(log, version, entries)
                if active_key is not None:
                    place = member(log.encode(), version)
                    # XX: a session that was moved or deleted meanwhile is not added again.
                    self._connection.command(("ZADD", active_key, "XX", "LT", score, place))
                return answer
            assert reply[0] == ELSEWHERE
            if self._learn(log, reply[1], reply[2]) is None:
                return DAMAGED
        raise contended(self._keys.log(log)[0])

    def _call(
        self,
        log: str,
        at: int,
        known: _Activity,
        rest: Sequence[Argument],
        keys: Sequence[bytes],
        expected: int | None,
        generation: str | None,
    ) -> Call:
        """Return what a script that changes the log is called with."""
        active = () if self._connection.cluster else (known.key,)
        guards = ("" if expected is None else expected, "" if generation is None else generation)
        arguments = [at, known.version, log.encode(), *guards, *rest]
        return ("session", log), [*self._keys.log(log), *active, *keys], arguments

    def _known(self, log: str) -> _Activity:
        return self._active.get(log) or _Activity(b"", self._keys.log(log)[0])

    def _learn(self, log: str, version: bytes, entries: bytes | None) -> bytes | None:
        """Remember the index of active sessions that contains this session; return its key."""
        if entries is None:
            return None
        container = Entries.load(entries).fields.get("container_id")
        # A session without a container is in no such index. Then the script needs any key.
        key = self._keys.log(log)[0] if container is None else self._keys.active(container)
        self._active[log] = _Activity(version, key)
        if len(self._active) > _REMEMBERED:
            with suppress(KeyError):  # another thread may have emptied it
                self._active.popitem(last=False)
        return key

    def _answer(self, log: str, entry: str | None, reply: Any) -> int | Found:
        self._check(log, entry, reply)
        if isinstance(reply, list):
            return self._found(reply)
        assert isinstance(reply, int)
        return reply

    def fork(self, log: str, through: str | None, document: Document) -> int | None:
        key = document.key
        self._check_size("session", key, document.text)
        copy = self._keys.forked(key, document.revision)

        def run(keys: Sequence[bytes], write: Sequence[Argument]) -> Any:
            names, arguments = [*self._keys.log(key), *copy, *keys], [count, *write]
            subject = ("session", key)
            return self._connection.script(self._forks.fork, subject, names, arguments, _taken)

        def run_at_once(keys: Sequence[bytes], write: Sequence[Argument]) -> Any:
            names = [*self._keys.log(key), *self._keys.log(log), *keys]
            arguments = [*bound(through), *write]
            subject, script = ("session", log), self._forks.fork_at_once
            return self._connection.script(script, subject, names, arguments, _taken)

        if not self._connection.cluster:
            reply = self._indexing.create(document, document.updated_at, run_at_once)
            if not isinstance(reply, list):
                return self._forked(log, through, reply)

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
            if reply != AGAIN:
                return self._forked(key, None, reply)
        raise contended(self._keys.log(key)[0])

    def _forked(self, log: str, through: str | None, reply: Any) -> int | None:
        if reply == TAKEN:
            return None
        self._check(log, through, reply)
        assert isinstance(reply, int)
        return reply

    def _copy(
        self, log: str, copy: tuple[bytes, bytes], generation: str, count: int, to: str
    ) -> bool:
        """Copy the first `count` entries; return False if the log was changed meanwhile."""
        self._connection.pipeline([("UNLINK", key) for key in copy])
        names, subject = self._keys.log(log), ("session", log)
        copied = 0
        while copied < count:
            chunk: list[Argument] = [generation, copied + 1, min(copied + _COPY_CHUNK, count)]
            if self._connection.cluster and to != log:
                reply = self._connection.script(COPY_OUT, subject, names, chunk)
                if isinstance(reply, list):
                    keys = [self._keys.log(to)[0], *copy]
                    reply = self._connection.script(
                        COPY_IN, ("session", to), keys, [copied, *reply]
                    )
            else:
                reply = self._connection.script(COPY, subject, [*names, *copy], chunk)
            self._check(log, None, reply)
            if not copied < reply <= count:
                return False
            copied = reply
        return True

    def _flat(self, entries: Sequence[Entry]) -> list[bytes]:
        flat: list[bytes] = []
        for id, text, *_ in entries:
            encoded = text.encode()
            if len(encoded) > self._limit:
                self._check_size("message", id, text)
            flat += (id.encode(), encoded)
        return flat


def _taken(reply: Any) -> bool:
    return bool(reply == TAKEN)
