"""The steps that list records, and walks through pages while the records change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import invariant

from agentx_persistence import ContainerRecord, ImageRecord, Persistence, SessionRecord
from tests.model.anchors import BOX
from tests.model.conversations import Conversations
from tests.model.records import ids, names, step, times

AnyRecord = ContainerRecord | ImageRecord | SessionRecord
Place = tuple[int, str]

boxes = st.none() | ids | st.just(BOX)
_WALKS = 3


def id_of(record: AnyRecord) -> str:
    if isinstance(record, ContainerRecord):
        return record.container_id
    return record.image_id if isinstance(record, ImageRecord) else record.session_id


def place_of(record: AnyRecord, order: str = "newest") -> Place:
    """Return what listings are ordered by; "oldest" is in the reverse order of these places."""
    if order == "active":
        return -(record.updated_at // 1000), id_of(record)
    return -record.created_at, id_of(record)


def listed(records: Iterable[AnyRecord], order: str = "newest") -> list[AnyRecord]:
    return sorted(records, key=lambda record: place_of(record, order), reverse=order == "oldest")


def fits(record: AnyRecord, filters: dict[str, Any]) -> bool:
    return all(getattr(record, field) == value for field, value in filters.items())


class Walk:
    """One who goes from page to page."""

    def __init__(
        self, persistence: Persistence, kind: str, filters: dict[str, Any], order: str, size: int
    ) -> None:
        self.kind, self.filters, self.order, self.size = kind, filters, order, size
        self._find_page = getattr(persistence, kind).find_page
        self._cursor: str | None = None
        self._behind: Place | None = None
        self.found: list[str] = []
        self.ended = False

    def start(self, records: dict[str, AnyRecord]) -> None:
        self.throughout = {
            id: place_of(record, self.order)
            for id, record in records.items()
            if fits(record, self.filters)
        }

    def watch(self, records: dict[str, AnyRecord]) -> None:
        """Forget who moves, or goes, of those that were there at the start."""
        self.throughout = {
            id: place
            for id, place in self.throughout.items()
            if (record := records.get(id))
            and fits(record, self.filters)
            and place_of(record, self.order) == place
        }

    def go_on(self, records: dict[str, AnyRecord]) -> None:
        rest = listed(
            (
                record
                for record in records.values()
                if fits(record, self.filters) and self._is_ahead(place_of(record, self.order))
            ),
            self.order,
        )
        page = self._find_page(
            size=self.size, cursor=self._cursor, order=self.order, **self.filters
        )
        assert page.items == rest[: self.size]
        assert (page.next_cursor is not None) is (len(rest) > self.size)
        self.found += map(id_of, page.items)
        self._cursor = page.next_cursor
        if self._cursor is None:
            self.ended = True
            for id in self.throughout:
                assert self.found.count(id) == 1, id
        else:
            self._behind = place_of(page.items[-1], self.order)

    def _is_ahead(self, place: Place) -> bool:
        if self._behind is None:
            return True
        return place < self._behind if self.order == "oldest" else place > self._behind


class Listings(Conversations):
    walked: Counter[str]  # how many walks came to the end

    def __init__(self) -> None:
        super().__init__()
        self.walks: list[Walk] = []

    def _records(self, kind: str) -> dict[str, Any]:
        records: dict[str, Any] = getattr(self, kind)
        return records

    # No walk decides which steps come next: by the clock of "active" it ends sooner or later, and
    # Hypothesis wants a repetition to draw the same.
    @step(kind=st.sampled_from(["containers", "images", "sessions"]), data=st.data())
    def begin_to_walk(self, kind: str, data: st.DataObject) -> None:
        fields = {"containers": {}, "images": {"name": names}, "sessions": {"image_id": ids}}[kind]
        drawn = {field: data.draw(st.none() | values) for field, values in fields.items()}
        if kind != "containers":
            drawn["container_id"] = data.draw(boxes)
        filters = {field: value for field, value in drawn.items() if value is not None}
        orders = ["newest", "oldest"]
        if kind == "sessions" and set(filters) == {"container_id"}:
            orders.append("active")
        order = data.draw(st.sampled_from(orders))
        walk = Walk(self.persistence, kind, filters, order, data.draw(st.integers(1, 3)))
        walk.start(self._records(kind))
        self.walks.append(walk)
        if len(self.walks) > _WALKS:
            self._walk_to_the_end(self.walks.pop(0))

    @step()
    def turn_the_pages(self) -> None:
        for walk in self.walks:
            walk.go_on(self._records(walk.kind))
        self.walked.update(walk.kind for walk in self.walks if walk.ended)
        self.walks = [walk for walk in self.walks if not walk.ended]

    @step(kind=st.sampled_from(["containers", "images", "sessions"]), data=st.data())
    def list_everything(self, kind: str, data: st.DataObject) -> None:
        limit = data.draw(st.none() | st.integers(0, 4))
        order = data.draw(st.sampled_from(["newest", "oldest"]))
        since, until = data.draw(st.none() | times), data.draw(st.none() | times)
        repository, records = getattr(self.persistence, kind), self._records(kind)
        expected = [
            record
            for record in records.values()
            if (since is None or since <= record.created_at)
            and (until is None or record.created_at < until)
        ]
        found = repository.find_all(limit=limit, order=order, since=since, until=until)
        assert found == listed(expected, order)[:limit]
        assert repository.count() == len(records)

    @step(box=ids | st.just(BOX), limit=st.none() | st.integers(0, 4), data=st.data())
    def list_active_sessions(self, box: str, limit: int | None, data: st.DataObject) -> None:
        inside = [s for s in self.sessions.values() if s.container_id == box]
        # How many seconds there are depends on the clock; what is drawn must not.
        seconds = sorted({s.updated_at // 1000 for s in inside}) or [0]
        bounds = st.none() | st.integers(0, 11).map(lambda number: seconds[number % len(seconds)])
        since, until = data.draw(bounds), data.draw(bounds)
        expected = [
            session
            for session in inside
            if (since is None or since <= session.updated_at // 1000)
            and (until is None or session.updated_at // 1000 < until)
        ]
        found = self.persistence.sessions.find_all(
            container_id=box,
            order="active",
            limit=limit,
            since=since and since * 1000,
            until=until and until * 1000,
        )
        assert found == listed(expected, "active")[:limit]

    @step(box=boxes, name=st.none() | names)
    def list_images(self, box: str | None, name: str | None) -> None:
        given = {"container_id": box, "name": name}
        filters = {field: value for field, value in given.items() if value is not None}
        expected = [i for i in self.images.values() if fits(i, filters)]
        found = self.persistence.images.find_all(container_id=box, name=name)
        assert found == listed(expected)
        assert self.persistence.images.count(container_id=box, name=name) == len(expected)

    @step(box=boxes, owner=st.none() | ids)
    def list_sessions(self, box: str | None, owner: str | None) -> None:
        given = {"container_id": box, "image_id": owner}
        filters = {field: value for field, value in given.items() if value is not None}
        expected = listed(s for s in self.sessions.values() if fits(s, filters))
        sessions = self.persistence.sessions
        assert sessions.find_all(container_id=box, image_id=owner) == expected
        assert sessions.count(container_id=box, image_id=owner) == len(expected)
        if owner is not None and box is None:
            assert sessions.find_by_image(owner) == (expected[0] if expected else None)

    def _walk_to_the_end(self, walk: Walk) -> None:
        while not walk.ended:
            walk.go_on(self._records(walk.kind))
        self.walked[walk.kind] += 1

    @invariant()
    def who_walks_is_told_of_changes(self) -> None:
        for walk in self.walks:
            walk.watch(self._records(walk.kind))

    def teardown(self) -> None:
        """Compare everything, walks included, as single steps look only at what they touch."""
        for walk in self.walks:
            self._walk_to_the_end(walk)
        for kind in ("containers", "images", "sessions"):
            found = getattr(self.persistence, kind).find_all()
            assert [record.to_json() for record in found] == [
                record.to_json() for record in listed(self._records(kind).values())
            ]
        for id in self.messages:
            self._compare(id)
