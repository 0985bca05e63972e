"""The storage in memory."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from agentx_persistence._memory.changes import Changes, Step
from agentx_persistence._memory.index import Indexes, entries_of
from agentx_persistence._memory.log import Log
from agentx_persistence._unlocking import raise_unless_unlocked
from agentx_persistence.errors import RecordNotFoundError
from agentx_persistence.storage import (
    KINDS,
    SESSIONS,
    Document,
    Entry,
    Found,
    Kind,
    Listing,
    Query,
    Slice,
    Storage,
    Stored,
    Window,
)
from agentx_persistence.storage.kinds import owned_queries


class MemoryStorage(Storage):
    """Stores texts, not objects, so that stored data shares nothing with a caller's objects."""

    def __init__(self) -> None:
        self._changes = Changes()
        self._documents: dict[Kind, dict[str, Document]] = {kind: {} for kind in KINDS}
        self._logs: dict[str, Log] = {}
        self._indexes = Indexes()

    def __repr__(self) -> str:
        return "memory"

    def put(self, kind: Kind, document: Document) -> None:
        self._changes.run(lambda: self._changes.do(self._saving(kind, document)))

    def create(self, kind: Kind, document: Document) -> bool:
        return self._changes.run(lambda: self._put_over(kind, document, None))

    def replace(self, kind: Kind, document: Document, revision: str) -> bool:
        return self._changes.run(lambda: self._put_over(kind, document, revision))

    def _put_over(self, kind: Kind, document: Document, revision: str | None) -> bool:
        """Put the document if the stored one has this revision; ``None``: if none is stored."""
        found = self._documents[kind].get(document.key)
        if (None if found is None else found.revision) != revision:
            return False
        self._changes.do(self._saving(kind, document))
        return True

    def get(self, kind: Kind, keys: Sequence[str]) -> dict[str, Stored]:
        def work() -> dict[str, Stored]:
            documents = self._documents[kind]
            return {key: self._stored(kind, documents[key]) for key in keys if key in documents}

        return self._changes.run(work)

    def find(self, kind: Kind, query: Query) -> Listing:
        def work() -> Listing:
            keys, after = self._indexes.find(kind, query)
            documents = self._documents[kind]
            return Listing([self._stored(kind, documents[key]) for key in keys], after)

        return self._changes.run(work)

    def count(self, kind: Kind, query: Query) -> int:
        return self._changes.run(lambda: self._indexes.count(kind, query))

    def delete(self, kind: Kind, key: str, *, before: int | None = None) -> bool:
        def work() -> bool:
            found = self._documents[kind].get(key)
            if found and before is not None and self._updated_at(kind, found) >= before:
                return False
            gone: dict[tuple[Kind, str], Document] = {}
            self._collect(kind, key, gone)
            entries = {
                entry
                for (owned, _), document in gone.items()
                for entry in entries_of(owned, document, self._updated_at(owned, document))
            }

            def forget() -> None:
                for owned, owned_key in gone:
                    self._documents[owned].pop(owned_key, None)
                    if owned is SESSIONS:
                        self._logs.pop(owned_key, None)

            self._changes.do([lambda: self._indexes.remove(entries), forget])
            return found is not None

        return self._changes.run(work)

    def _collect(self, kind: Kind, key: str, gone: dict[tuple[Kind, str], Document]) -> None:
        if key in self._documents[kind]:
            gone[kind, key] = self._documents[kind][key]
        for owned, query in owned_queries(kind, key):
            for each in self._indexes.find(owned, query)[0]:
                self._collect(owned, each, gone)

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
        changes = self._changes
        lock = changes.lock
        try:  # as in `Changes.run`, which would take two more calls; appends are most frequent
            lock.acquire()
            if changes.busy:
                changes.refuse_nested()
            try:
                changes.busy = True
                changes.begin()
                target = self._logs.get(log)
                if target is None:
                    if create is None:
                        raise RecordNotFoundError("session", log)
                    if expected not in (None, 0) or generation not in (None, create.revision):
                        return Found(Log("", 0).head, {})
                    return self._create_with(create, entries, at)
                count, current, updated_at = target.state
                if (
                    (expected is not None and expected != count)
                    or (generation is not None and generation != current)
                    or not target.add(entries)
                ):
                    return target.find(entry.id for entry in entries)
                if not entries:
                    return count
                count += len(entries)
                state = (count, current, at if at > updated_at else updated_at)
                if at // 1000 <= updated_at // 1000:
                    target.state = state
                else:
                    moving = self._moving(log, updated_at, at)
                    changes.do([*moving, partial(setattr, target, "state", state)])
                return count
            finally:
                changes.busy = False
        finally:
            try:
                lock.release()
            except RuntimeError as error:
                raise_unless_unlocked(error)

    def _create_with(self, document: Document, entries: Sequence[Entry], at: int) -> int:
        updated_at = max(document.updated_at, at) if entries else document.updated_at
        target = Log(document.revision, updated_at)
        target.add(entries)
        target.state = (len(entries), document.revision, updated_at)
        added = entries_of(SESSIONS, document, updated_at)
        self._changes.do(
            [
                lambda: self._logs.__setitem__(document.key, target),
                lambda: self._documents[SESSIONS].__setitem__(document.key, document),
                lambda: self._indexes.add(added),
            ]
        )
        return len(entries)

    def read(self, log: str, window: Window) -> Slice:
        return self._changes.run(lambda: self._log(log).read(window))

    def lookup(self, log: str, ids: Sequence[str]) -> Found:
        return self._changes.run(lambda: self._log(log).find(ids))

    def newest(self, logs: Sequence[str]) -> dict[str, Slice]:
        newest = Window(last=1)
        return self._changes.run(
            lambda: {log: self._logs[log].read(newest) for log in logs if log in self._logs}
        )

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
        def work() -> int | Found:
            target = self._log(log)
            count, current, updated_at = target.state
            if current.startswith(f"{token}."):  # an earlier attempt of this call
                return int(current.rpartition(".")[2])
            kept = target.require(after, 0)
            if kept > count:
                raise RecordNotFoundError("message", f"#{kept}")
            found = target.find(entry.id for entry in entries)
            if (
                expected not in (None, count)
                or generation not in (None, current)
                or any(position <= kept for position, _ in found.there.values())
            ):
                return found
            cut = count - kept
            state = (kept + len(entries), f"{token}.{cut}", max(updated_at, at))
            self._changes.do(
                [
                    lambda: target.cut(kept, entries),
                    *self._moving(log, updated_at, state[2]),
                    lambda: setattr(target, "state", state),
                ]
            )
            return cut

        return self._changes.run(work)

    def swap(self, log: str, entry: Entry, at: int, token: str) -> None:
        def work() -> None:
            target = self._log(log)
            position = target.require(entry.id, 0)
            count, _, updated_at = target.state
            state = (count, token, max(updated_at, at))
            self._changes.do(
                [
                    lambda: target.texts.__setitem__(position - 1, entry.text),
                    *self._moving(log, updated_at, state[2]),
                    lambda: setattr(target, "state", state),
                ]
            )

        self._changes.run(work)

    def fork(self, log: str, through: str | None, document: Document) -> int | None:
        def work() -> int | None:
            source = self._log(log)
            count = source.require(through, source.state[0])
            if document.key in self._documents[SESSIONS]:
                return None
            copied = [
                Entry(id, text)
                for id, text in zip(source.ids[:count], source.texts[:count], strict=True)
            ]
            self._create_with(document, copied, document.updated_at)
            return count

        return self._changes.run(work)

    def where(self, kind: Kind, key: str, position: int | None = None) -> str:
        entry = "" if position is None else f", message {position}"
        return f"memory, {kind.noun} {key!r}{entry}"

    def ping(self) -> None:
        self._changes.run(lambda: None)

    def close(self) -> None:
        self._changes.close()

    def _saving(self, kind: Kind, document: Document) -> list[Step]:
        key = document.key
        old = self._documents[kind].get(key)
        left = set() if old is None else entries_of(kind, old, self._updated_at(kind, old))
        entered = entries_of(kind, document, document.updated_at)
        plan: list[Step] = [
            *self._indexes.move(left, entered),
            lambda: self._documents[kind].__setitem__(key, document),
        ]
        if kind is SESSIONS:
            log = self._logs.get(key)
            if log is None:
                new = Log(document.revision, document.updated_at)
                plan.append(lambda: self._logs.__setitem__(key, new))
            else:
                state = (*log.state[:2], document.updated_at)
                plan.append(lambda: setattr(log, "state", state))
        return plan

    def _moving(self, key: str, old: int, new: int) -> list[Step]:
        """Return the steps that move a session to its new place in the "active" index."""
        if old // 1000 == new // 1000:
            return []
        document = self._documents[SESSIONS][key]
        left, entered = entries_of(SESSIONS, document, old), entries_of(SESSIONS, document, new)
        return self._indexes.move(left, entered)

    def _updated_at(self, kind: Kind, document: Document) -> int:
        return self._logs[document.key].state[2] if kind is SESSIONS else document.updated_at

    def _stored(self, kind: Kind, document: Document) -> Stored:
        updated_at = self._updated_at(kind, document)
        return Stored(document.key, document.text, updated_at, document.revision)

    def _log(self, key: str) -> Log:
        try:
            return self._logs[key]
        except KeyError:
            raise RecordNotFoundError("session", key) from None
