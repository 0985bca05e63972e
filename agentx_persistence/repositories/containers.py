"""The repository of containers."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import TypeAdapter

from agentx_persistence import records
from agentx_persistence.records import ContainerRecord
from agentx_persistence.repositories._repository import Page, Repository, query
from agentx_persistence.storage import CONTAINERS


class ContainerRepository(Repository[ContainerRecord]):
    kind = CONTAINERS
    record = ContainerRecord
    many: ClassVar[TypeAdapter[Any]] = records.CONTAINERS
    key_fields = "container_id"

    def find_all(
        self,
        *,
        order: str = "newest",
        since: int | None = None,
        until: int | None = None,
        limit: int | None = None,
    ) -> list[ContainerRecord]:
        """Return at most `limit` containers, or all.

        :param order: "newest" is `created_at` descending, those of the same millisecond by id,
            ascending; "oldest" is exactly the reverse
        :param since: only those with ``since <= time``, in milliseconds of the order's time
        :param until: only those with ``time < until``
        """
        return self._find_all(query({}, order, since, until, limit))

    def find_page(
        self,
        *,
        order: str = "newest",
        since: int | None = None,
        until: int | None = None,
        size: int = 50,
        cursor: str | None = None,
    ) -> Page[ContainerRecord]:
        """Return at most `size` containers in the order of `find_all`, from the start or from the
        `next_cursor` of the page before. Records that are saved between two pages do not shift
        them."""
        return self._find_page(query({}, order, since, until, size), cursor)

    def count(self) -> int:
        """Return the number of containers."""
        return self._count(query({}, "newest", None, None, None))
