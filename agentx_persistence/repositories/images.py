"""The repository of images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import TypeAdapter

from agentx_persistence import records
from agentx_persistence.records import ImageRecord
from agentx_persistence.repositories._arguments import check_filters
from agentx_persistence.repositories._changes import metadata_change
from agentx_persistence.repositories._repository import Page, Repository, query
from agentx_persistence.storage import IMAGES, Query


class ImageRepository(Repository[ImageRecord]):
    kind = IMAGES
    record = ImageRecord
    many: ClassVar[TypeAdapter[Any]] = records.IMAGES
    key_fields = "image_id"

    def find_all(
        self,
        *,
        container_id: str | None = None,
        name: str | None = None,
        order: str = "newest",
        since: int | None = None,
        until: int | None = None,
        limit: int | None = None,
    ) -> list[ImageRecord]:
        """Return at most `limit` images, or all; for the order see `ContainerRepository.find_all`.

        :param container_id: only the images of this container
        :param name: only the images of exactly this name, which is case-sensitive
        """
        return self._find_all(_query(container_id, name, order, since, until, limit))

    def find_page(
        self,
        *,
        container_id: str | None = None,
        name: str | None = None,
        order: str = "newest",
        since: int | None = None,
        until: int | None = None,
        size: int = 50,
        cursor: str | None = None,
    ) -> Page[ImageRecord]:
        """Return a page of what `find_all` returns; see `ContainerRepository.find_page`."""
        return self._find_page(_query(container_id, name, order, since, until, size), cursor)

    def count(self, *, container_id: str | None = None, name: str | None = None) -> int:
        """Return the number of images that `find_all` returns for these filters."""
        return self._count(_query(container_id, name, "newest", None, None, None))

    def update_metadata(self, image_id: str, changes: Mapping[str, Any]) -> ImageRecord:
        """Merge the top-level keys into the image's metadata in one step; return the new image.

        A key whose value is ``None`` is removed. `updated_at` becomes the time of the call.

        :raises RecordNotFoundError: if there is no such image
        """
        return self.update(image_id, metadata_change(changes))


def _query(
    container_id: str | None,
    name: str | None,
    order: str,
    since: int | None,
    until: int | None,
    limit: int | None,
) -> Query:
    where = check_filters({"container_id": container_id, "name": name})
    return query(where, order, since, until, limit)
