"""The steps on items."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import strategies as st

from agentx_persistence import ItemRecord, RecordConflictError, RecordNotFoundError
from tests.model import written
from tests.model.anchors import BOX
from tests.model.listings import Listings
from tests.model.records import IDS, ids, maps, step, times

Namespace = tuple[str, ...]

namespaces = st.tuples(ids, st.sampled_from([(), ("x",), ("x", "y"), ("x y",), ("X",)])).map(
    lambda drawn: (drawn[0], *drawn[1])
)


class Items(Listings):
    @step(space=namespaces, key=ids, created_at=times, data=maps)
    def save_item(self, space: Namespace, key: str, created_at: int, data: dict[str, Any]) -> None:
        record = written.item(space, key, created_at, data)
        self.persistence.items.save(record)
        self.items[space, key] = record

    @step(space=namespaces, key=ids, data=maps)
    def create_item(self, space: Namespace, key: str, data: dict[str, Any]) -> None:
        record = written.item(space, key, 1, data)
        if (space, key) in self.items:
            with pytest.raises(RecordConflictError):
                self.persistence.items.create(record)
        else:
            self.persistence.items.create(record)
            self.items[space, key] = record
        assert self.persistence.items.get(space, key) == self.items[space, key]

    @step(space=namespaces, key=ids, created_at=times, data=maps)
    def update_item(
        self, space: Namespace, key: str, created_at: int, data: dict[str, Any]
    ) -> None:
        items, old = self.persistence.items, self.items.get((space, key))
        if old is None:
            with pytest.raises(RecordNotFoundError):
                items.update(space, key, {"created_at": created_at})
            return
        merged = written.merge(old.value["data"], data)
        new = written.item(space, key, created_at, merged)
        patch = {"created_at": created_at, "value": {**new.value, "data": data}}
        found = items.update(space, key, patch)
        assert found == new.model_copy(update={"updated_at": found.updated_at})
        self.items[space, key] = found

    @step(space=namespaces, key=ids)
    def get_an_item(self, space: Namespace, key: str) -> None:
        items, record = self.persistence.items, self.items.get((space, key))
        assert items.find(space, key) == record
        assert items.exists(space, key) is (record is not None)
        asked = [(space, key), ((BOX, "x"), f"{BOX} 0"), ((BOX,), key)]
        expected = [(name, self.items[name]) for name in asked if name in self.items]
        assert list(items.find_many(asked).items()) == expected

    @step(space=namespaces, key=ids)
    def delete_item(self, space: Namespace, key: str) -> None:
        found = self.items.pop((space, key), None)
        assert self.persistence.items.delete(space, key) is (found is not None)

    @step(
        space=namespaces | st.just((BOX, "x")),
        order=st.sampled_from(["key", "newest", "oldest"]),
        limit=st.integers(1, 3),
    )
    def list_items(self, space: Namespace, order: str, limit: int) -> None:
        items = self.persistence.items
        own = [item for (of, _), item in self.items.items() if of == space]
        if order == "key":
            own.sort(key=lambda item: item.key)
        else:
            own.sort(key=lambda item: (-item.created_at, item.key), reverse=order == "oldest")
        assert items.find_all(namespace=space, order=order) == own
        assert items.find_all(namespace=space, order=order, limit=limit) == own[:limit]
        assert items.find_page(namespace=space, order=order, size=limit).items == own[:limit]
        assert items.count(namespace=space) == len(own)

    @step(prefix=namespaces, size=st.integers(1, 3))
    def walk_through_items(self, prefix: Namespace, size: int) -> None:
        items, within = self.persistence.items, self._within(prefix)
        found: list[ItemRecord] = []
        page = items.find_page(namespace_prefix=prefix, size=size)
        found += page.items
        while page.next_cursor:
            page = items.find_page(namespace_prefix=prefix, size=size, cursor=page.next_cursor)
            found += page.items
        assert found == within
        assert items.count(namespace_prefix=prefix) == len(within)

    def _within(self, prefix: Namespace) -> list[ItemRecord]:
        items = sorted(self.items.items())
        return [item for (space, _), item in items if space[: len(prefix)] == prefix]

    def teardown(self) -> None:
        super().teardown()
        for id in (*IDS, BOX):
            found = self.persistence.items.find_all(namespace_prefix=(id,))
            assert [item.to_json() for item in found] == [
                item.to_json() for item in self._within((id,))
            ]
