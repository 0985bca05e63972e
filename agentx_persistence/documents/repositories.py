"""The contract over a `DocumentStore`: containers and images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import TypeAdapter
from pydantic_core import to_json

from agentx_persistence import records
from agentx_persistence.arguments import (
    MetadataChange,
    check_count,
    check_filters,
    check_limit,
    check_record,
    decode_cursor,
    encode_cursor,
)
from agentx_persistence.documents.store import (
    CONTAINERS,
    IMAGES,
    Document,
    DocumentStore,
)
from agentx_persistence.errors import RecordNotFoundError
from agentx_persistence.fields import check_id
from agentx_persistence.loading import load
from agentx_persistence.records import (
    ContainerRecord,
    ImageRecord,
    SessionRecord,
)
from agentx_persistence.repositories import (
    ContainerRepository,
    ImageRepository,
    Page,
    Repository,
)

R = TypeVar("R", ContainerRecord, ImageRecord, SessionRecord)


def _compound(filters: Mapping[str, str]) -> tuple[str, str] | None:
    """Return one index field and value for these filters, in the order of their names.

    Two filters are one index of their own, so that neither is ever searched through.
    """
    if len(filters) < 2:
        return next(iter(filters.items()), None)
    fields = sorted(filters)
    return "+".join(fields), to_json([filters[field] for field in fields]).decode()


class DocumentRepository(Repository[R], Generic[R]):
    kind: ClassVar[str]
    record: ClassVar[type[Any]]
    many: ClassVar[TypeAdapter[Any]]
    id_field: ClassVar[str]
    filters: ClassVar[tuple[str, ...]] = ()

    def __init__(self, store: DocumentStore) -> None:
        self._store = store

    def save(self, record: R) -> None:
        check_record(self.record, record)
        document = self._document(record)
        values = {
            field: value for field in self.filters if (value := getattr(record, field)) is not None
        }
        indexes = dict(values)
        if len(values) == 2 and (both := _compound(values)):
            indexes.update([both])
        self._store.put(self.kind, document, indexes)

    def get(self, id: str) -> R:
        found = self.find(id)
        if found is None:
            raise RecordNotFoundError(self.record.record_kind, id)
        return found

    def find(self, id: str) -> R | None:
        check_id(self.record.record_kind, id)
        document = self._store.get(self.kind, id)
        return None if document is None else self._load([document])[0]

    def exists(self, id: str) -> bool:
        check_id(self.record.record_kind, id)
        return self._store.get(self.kind, id) is not None

    def delete(self, id: str) -> bool:
        check_id(self.record.record_kind, id)
        return self._store.cascade(lambda: self._delete(id))

    def _delete(self, id: str) -> bool:
        self._delete_owned(id)
        return self._store.delete(self.kind, id)

    def _delete_owned(self, id: str) -> None:
        """Delete what this record owns, before the record, so that it can be done again."""

    def _delete_all(self, repository: DocumentRepository[Any], field: str, value: str) -> None:
        after = None
        while found := self._store.find(repository.kind, (field, value), after, 100):
            for document in found:
                repository._delete(document.key)
            after = (found[-1].created_at, found[-1].key)

    def _find_all(self, filters: dict[str, str | None], limit: int | None) -> list[R]:
        given = check_filters(filters)
        check_limit("limit", limit)
        return self._load(self._store.find(self.kind, _compound(given), None, limit))

    def _find_page(self, filters: dict[str, str | None], size: int, cursor: str | None) -> Page[R]:
        given = check_filters(filters)
        check_count("size", size, 1)
        after = decode_cursor(cursor)
        found = self._store.find(self.kind, _compound(given), after, size + 1)
        items = self._load(found[:size])
        if len(found) <= size:
            return Page(items, None)
        return Page(items, encode_cursor((found[size - 1].created_at, found[size - 1].key)))

    def _document(self, record: R) -> Document:
        text, id = record.to_json(), getattr(record, self.id_field)
        return Document(id, text, record.created_at, record.updated_at)

    def _load(self, documents: list[Document]) -> list[R]:
        loaded: list[R] = load(
            self.many,
            [document.text for document in documents],
            lambda index: (
                self.record.record_kind,
                documents[index].key,
                self._store.where(self.kind, documents[index].key),
            ),
        )
        return [
            record
            if record.updated_at == document.updated_at
            # A message was added since the text was written; the store knows when.
            else record._updated(document.updated_at)
            for record, document in zip(loaded, documents, strict=True)
        ]


class DocumentContainerRepository(DocumentRepository[ContainerRecord], ContainerRepository):
    kind = CONTAINERS
    record = ContainerRecord
    many = records.CONTAINERS
    id_field = "container_id"

    def __init__(
        self,
        store: DocumentStore,
        images: DocumentImageRepository,
        sessions: DocumentRepository[SessionRecord],
    ) -> None:
        super().__init__(store)
        self._images, self._sessions = images, sessions

    def find_all(self, *, limit: int | None = None) -> list[ContainerRecord]:
        return self._find_all({}, limit)

    def find_page(self, *, size: int = 50, cursor: str | None = None) -> Page[ContainerRecord]:
        return self._find_page({}, size, cursor)

    def _delete_owned(self, id: str) -> None:
        self._delete_all(self._images, "container_id", id)
        self._delete_all(self._sessions, "container_id", id)


class DocumentImageRepository(DocumentRepository[ImageRecord], ImageRepository):
    kind = IMAGES
    record = ImageRecord
    many = records.IMAGES
    id_field = "image_id"
    filters = ("container_id", "name")

    def __init__(self, store: DocumentStore, sessions: DocumentRepository[SessionRecord]) -> None:
        super().__init__(store)
        self._sessions = sessions

    def find_all(
        self,
        *,
        container_id: str | None = None,
        name: str | None = None,
        limit: int | None = None,
    ) -> list[ImageRecord]:
        return self._find_all({"container_id": container_id, "name": name}, limit)

    def find_page(
        self,
        *,
        container_id: str | None = None,
        name: str | None = None,
        size: int = 50,
        cursor: str | None = None,
    ) -> Page[ImageRecord]:
        return self._find_page({"container_id": container_id, "name": name}, size, cursor)

    def update_metadata(self, image_id: str, changes: Mapping[str, Any]) -> ImageRecord:
        check_id("image", image_id)
        merge = MetadataChange(changes)
        changed = self._store.update(
            self.kind,
            image_id,
            lambda document: self._document(merge.apply(self._load([document])[0])),
        )
        if changed is None:
            raise RecordNotFoundError("image", image_id)
        return self._load([changed])[0]

    def _delete_owned(self, id: str) -> None:
        self._delete_all(self._sessions, "image_id", id)
