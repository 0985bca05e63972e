"""Threads that read while the machine writes.

They know neither what is there nor what comes next, but nothing that they see may be an error, a
torn or doubled record, an anchor that is missing, or a history with a gap.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import pairwise
from types import TracebackType
from typing import Any, Self

from agentx_persistence import Message, Persistence, RecordConflictError, RecordNotFoundError
from tests.model.anchors import BOX, NAME, Anchors
from tests.model.listings import AnyRecord, fits, id_of, place_of
from tests.model.records import IDS
from tests.model.written import check_messages, check_record, place

# How the listings are filtered in which the anchors are.
_FILTERS: dict[str, list[dict[str, Any]]] = {
    "containers": [{}],
    "images": [{}, {"name": NAME}, {"container_id": BOX}, {"container_id": BOX, "name": NAME}],
    "sessions": [{}, {"container_id": BOX}, {"image_id": f"{BOX} 0"}],
}


class Readers:
    """Two of them, as long as the `with` block lasts; at its end what went wrong is raised."""

    def __init__(self, persistence: Persistence, anchors: Anchors, seed: int, pause: float) -> None:
        """:param pause: seconds between two operations of a reader; without any, the three threads
        would mostly wait for the interpreter, and the writer would do a tenth of its steps"""
        self._persistence, self._anchors, self._pause = persistence, anchors, pause
        self._ended = threading.Event()
        self.reads: Counter[str] = Counter()
        self.wrong: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._read, args=(random.Random(seed + number),))
            for number in range(2)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()
        if self.wrong:
            raise self.wrong[0]

    def wait_for(self, count: int, seconds: float = 100) -> None:
        """Wait until they have read so often, or something went wrong."""
        deadline = time.monotonic() + seconds
        while self.reads.total() < count and not self.wrong:
            assert time.monotonic() < deadline, f"only {self.reads.total()} readings"
            time.sleep(0.005)

    def _read(self, chance: random.Random) -> None:
        reads: list[Callable[[random.Random], None]] = [
            self._turn_pages,
            self._list,
            self._look_at_histories,
            self._look_at_windows,
            self._look_at_summaries,
            self._look_at_items,
            self._get,
        ]
        try:
            while not self._ended.is_set() and not self.wrong:
                read = chance.choice(reads)
                read(chance)
                self.reads[read.__name__.strip("_")] += 1
                time.sleep(self._pause)
        except BaseException as error:
            self.wrong.append(error)

    def _turn_pages(self, chance: random.Random) -> None:
        kind = chance.choice(list(_FILTERS))
        filters = chance.choice(_FILTERS[kind])
        order = self._order(chance, kind, filters)
        size, cursor = chance.randint(1, 4), None
        found: list[AnyRecord] = []
        while True:
            page = getattr(self._persistence, kind).find_page(
                size=size, cursor=cursor, order=order, **filters
            )
            assert len(page.items) <= size
            found += page.items
            cursor = page.next_cursor
            if cursor is None:
                break
        self._check_listing(kind, filters, order, found)

    def _order(self, chance: random.Random, kind: str, filters: dict[str, Any]) -> str:
        orders = ["newest", "oldest"]
        if kind == "sessions" and set(filters) == {"container_id"}:
            orders.append("active")
        return chance.choice(orders)

    def _list(self, chance: random.Random) -> None:
        kind = chance.choice(list(_FILTERS))
        filters = chance.choice(_FILTERS[kind])
        order = self._order(chance, kind, filters)
        found = getattr(self._persistence, kind).find_all(order=order, **filters)
        self._check_listing(kind, filters, order, found)
        ids = [id_of(record) for record in found]
        assert len(set(ids)) == len(ids), ids

    def _check_listing(
        self, kind: str, filters: dict[str, Any], order: str, found: Sequence[AnyRecord]
    ) -> None:
        for record in found:
            check_record(record)
            assert fits(record, filters), (filters, record)
        places = [place_of(record, order) for record in found]
        if order == "oldest":
            places.reverse()
        # In order, and nothing twice at one place; what moved between pages may be at two.
        assert all(one < next for one, next in pairwise(places)), places
        anchors = {id: a for id, a in getattr(self._anchors, kind).items() if fits(a, filters)}
        seen = {id_of(record): record for record in found if id_of(record) in anchors}
        assert seen == anchors, (filters, places)

    def _look_at_histories(self, chance: random.Random) -> None:
        sessions = self._persistence.sessions
        for id, history in self._anchors.messages.items():
            assert sessions.get_messages(id) == history
        id = chance.choice(IDS)
        with suppress(RecordNotFoundError):  # the session may be gone at any moment
            check_messages(sessions.get_messages(id), whole=True)
            assert sessions.count_messages(id) >= 0
            with suppress(RecordConflictError):  # it may have been cut since it began
                check_messages(list(sessions.iter_messages(id)), whole=True)
                backwards = list(sessions.iter_messages(id, reverse=True))
                check_messages(backwards[::-1], whole=True)

    def _look_at_windows(self, chance: random.Random) -> None:
        sessions = self._persistence.sessions
        id, size = chance.choice(IDS), chance.randint(1, 5)
        with suppress(RecordNotFoundError):  # so may the message be
            newest = sessions.get_messages(id, last=size)
            check_messages(newest)
            check_messages(sessions.get_messages(id, first=size), whole=True)
            if newest:
                self._look_around(id, chance.choice(newest), size)

    def _look_around(self, id: str, known: Message, size: int) -> None:
        sessions = self._persistence.sessions
        for behind in (
            sessions.get_messages(id, after=known.id, first=size),
            sessions.get_messages(id, after=known.id),
        ):
            check_messages(behind)
            if behind:
                assert behind[0].parent_id == known.id, (known, behind)
        for ahead in (
            sessions.get_messages(id, before=known.id, last=size),
            sessions.get_messages(id, before=known.id),
        ):
            check_messages(ahead)
            assert known.id not in {message.id for message in ahead}

    def _look_at_summaries(self, chance: random.Random) -> None:
        asked = [*chance.sample(IDS, 3), *self._anchors.messages]
        for id, summary in self._persistence.sessions.summaries(asked).items():
            last, history = summary.last_message, self._anchors.messages.get(id)
            check_messages([last] if last else [])
            assert summary.message_count == (place(last) if last else 0), (id, summary)
            if history is not None:
                assert [last] == (history[-1:] or [None])

    def _look_at_items(self, chance: random.Random) -> None:
        items = self._persistence.items
        anchors = list(self._anchors.items.values())
        assert items.find_all(namespace_prefix=(BOX,)) == anchors
        assert items.find_all(namespace=(BOX, "x"), order="oldest") == anchors
        id, size = chance.choice(IDS), chance.randint(1, 5)
        page = items.find_page(namespace_prefix=(id,), size=size)
        found = list(page.items)
        while page.next_cursor:
            page = items.find_page(namespace_prefix=(id,), size=size, cursor=page.next_cursor)
            found += page.items
        for item in found:
            check_record(item)
            assert item.namespace[0] == id, item
        places = [(item.namespace, item.key) for item in found]
        assert all(one < next for one, next in pairwise(places)), places

    def _get(self, chance: random.Random) -> None:
        id = chance.choice(IDS)
        for repository in (
            self._persistence.containers,
            self._persistence.images,
            self._persistence.sessions,
        ):
            record = repository.find(id)
            if record is not None:
                check_record(record)
                assert id_of(record) == id
        newest = self._persistence.sessions.find_by_image(id)
        if newest is not None:
            check_record(newest)
            assert newest.image_id == id
        anchor = f"{BOX} 1"
        assert self._persistence.sessions.get(anchor) == self._anchors.sessions[anchor]
        many = self._persistence.sessions.find_many([*IDS, anchor])
        assert many[anchor] == self._anchors.sessions[anchor]
        assert all(id_of(record) == id for id, record in many.items())
