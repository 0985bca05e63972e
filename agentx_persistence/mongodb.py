"""The MongoDB backend: a stand-alone server, a replica set, or a sharded cluster.

There are four collections. A document of `containers`, `images` and `sessions` holds the record as
exact JSON text, and beside it what it is found by; `messages` has one document for each message
(`_mongodb/head.py` says how they make a log). Texts are never taken apart: as sub-documents they
would lose what BSON cannot hold (integers beyond 64 bits, keys such as ``$ref``).

Sharding. No collection has to be sharded; these keys fit the unique indexes and the queries:

* `messages`: ``{session_id: 1}``. Appending and reading ask one shard. It is the only large one.
* `containers`, `images`, `sessions`: leave them unsharded, and each query asks one shard. Where
  they outgrow that, ``{_id: "hashed"}``: then all but listings still ask one shard.

A caller's own client cannot be used in a child process after `os.fork`, as pymongo says of all its
clients (https://pymongo.readthedocs.io/en/stable/faq.html#is-pymongo-fork-safe); a client that this
driver opened is replaced there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

from agentx_persistence.errors import (
    CorruptRecordError,
    InvalidRecordError,
    MissingDependencyError,
)

try:
    from bson import Int64, ObjectId
    from pymongo import MongoClient
    from pymongo.errors import PyMongoError
except ModuleNotFoundError as error:
    raise MissingDependencyError("mongodb", "pymongo") from error

from pydantic_core import from_json

from agentx_persistence._mongodb.appending import Append
from agentx_persistence._mongodb.database import BATCH, INDEXES, Client, Database, text_of
from agentx_persistence._mongodb.head import new_head
from agentx_persistence._mongodb.log import Log
from agentx_persistence.documents import (
    Document,
    DocumentStorage,
    DocumentStore,
    Entry,
    Slice,
    Window,
)
from agentx_persistence.documents.store import CONTAINERS, IMAGES, SESSIONS
from agentx_persistence.persistence import PersistenceDriver, Storage

# Where neither the caller nor the connection string says otherwise.
_OPTIONS: dict[str, Any] = {
    "serverSelectionTimeoutMS": 3_000,
    "connectTimeoutMS": 3_000,
    "socketTimeoutMS": 30_000,
    "appname": "agentx-persistence",
}

_OWNERS = {CONTAINERS: "container_id", IMAGES: "image_id"}


def mongodb_driver(
    connection_string: str = "mongodb://localhost:27017",
    *,
    database_name: str = "agentx",
    collection_prefix: str = "",
    client: Client | None = None,
    **options: Any,
) -> PersistenceDriver:
    """Return the driver of a MongoDB database, whose indexes are made on opening.

    :param collection_prefix: what the names of the collections begin with
    :param client: the caller's own, used instead of the connection string and never closed; what
        it says of write concern, read concern and read preference does not count here
    :param options: anything that `pymongo.MongoClient` takes, such as ``tls=True`` or
        ``maxPoolSize=20``; they go before what the connection string says
    """
    return _MongoDriver(connection_string, database_name, collection_prefix, client, options)


class _MongoDriver(PersistenceDriver):
    def __init__(
        self,
        connection_string: str,
        database_name: str,
        collection_prefix: str,
        client: Client | None,
        options: dict[str, Any],
    ) -> None:
        self._connection_string, self._options = connection_string, options
        self._database_name, self._collection_prefix = database_name, collection_prefix
        self._client = client

    def __repr__(self) -> str:
        # No connection string: it can hold a password at more than one place.
        return (
            f"mongodb_driver(database_name={self._database_name!r}, "
            f"collection_prefix={self._collection_prefix!r})"
        )

    def create_storage(self) -> Storage:
        database = Database(
            self._connect, self._client, self._database_name, self._collection_prefix
        )
        try:
            database.open()
        except BaseException:
            database.close()
            raise
        return DocumentStorage(MongoStore(database))

    def _connect(self) -> Client:
        said = {name.lower() for name, _ in parse_qsl(self._connection_string.partition("?")[2])}
        said |= {name.lower() for name in self._options}
        defaults = {name: value for name, value in _OPTIONS.items() if name.lower() not in said}
        try:
            # Connecting is left to the first command: this is called in the midst of a fork, too.
            return MongoClient(
                self._connection_string, connect=False, **{**defaults, **self._options}
            )
        except (PyMongoError, ValueError, TypeError) as error:
            # What pymongo says can quote the connection string, and with it the password.
            reason = f"is refused by pymongo ({type(error).__name__})"
            raise InvalidRecordError("argument", "connection_string", reason) from None


def _place(created_at: int, key: str) -> str:
    """Return a text whose order, by code point, is the order of listings.

    So a page is one range of one index, whatever it starts behind.
    """
    return f"{2**53 - created_at:017d} {key}"


class MongoStore(DocumentStore):
    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, kind: str, document: Document, indexes: Mapping[str, str]) -> None:
        plain = {field for names in INDEXES[kind] for field in names} - {"place"}
        row: dict[str, Any] = {
            **{field: value for field, value in indexes.items() if field in plain},
            "text": document.text,
            "created_at": Int64(document.created_at),
            "updated_at": Int64(document.updated_at),
            "place": _place(document.created_at, document.key),
            "revision": ObjectId(),
        }
        change: dict[str, Any] = {"$set": row}
        if absent := plain - row.keys():
            change["$unset"] = dict.fromkeys(absent, "")
        if kind == SESSIONS:
            change["$setOnInsert"] = new_head()

        def work() -> None:
            self._database.check_size(kind.removesuffix("s"), document.key, row)
            self._database.rows(kind).update_one({"_id": document.key}, change, upsert=True)

        self._database.run(work)

    def get(self, kind: str, key: str) -> Document | None:
        row = self._database.run(lambda: self._database.rows(kind).find_one({"_id": key}))
        return None if row is None or "place" not in row else self._document(kind, row)

    def find(
        self,
        kind: str,
        index: tuple[str, str] | None,
        after: tuple[int, str] | None,
        limit: int | None,
    ) -> list[Document]:
        # A document that is being deleted has no place, and so is not in this range.
        where: dict[str, Any] = {"place": {"$gt": "" if after is None else _place(*after)}}
        if index is not None:
            field, value = index
            fields = field.split("+")
            where |= zip(fields, [value] if len(fields) == 1 else from_json(value), strict=True)

        def work() -> list[dict[str, Any]]:
            if limit == 0:  # which is no limit to MongoDB
                return []
            rows = self._database.rows(kind).find(where, session=self._database.unit)
            # A batch as large as the limit would leave a cursor, which costs a command to end.
            rows = rows.sort("place").batch_size(BATCH if limit is None else limit + 1)
            return list(rows if limit is None else rows.limit(limit))

        return [self._document(kind, row) for row in self._database.run(work)]

    def update(
        self, kind: str, key: str, change: Callable[[Document], Document]
    ) -> Document | None:
        rows = self._database.rows(kind, latest=True)

        def work() -> Document | None:
            for _ in self._database.attempts(f"{kind} {key!r}"):
                row = rows.find_one({"_id": key})
                if row is None or "place" not in row:
                    break
                changed = change(self._document(kind, row))
                new = {
                    "text": changed.text,
                    "updated_at": Int64(changed.updated_at),
                    "revision": ObjectId(),
                }
                self._database.check_size(kind.removesuffix("s"), key, {**row, **new})
                where = {"_id": key, "revision": row["revision"]}
                if rows.update_one(where, {"$set": new}).matched_count:
                    return changed
            return None

        with self._database.turn(key):
            return self._database.run(work)

    def delete(self, kind: str, key: str) -> bool:
        def work() -> bool:
            unit = self._database.unit
            if kind == SESSIONS:
                return Log(self._database, key).delete()
            # Sessions whose deletion was interrupted are in no listing any more.
            begun = {_OWNERS[kind]: key, "place": None}
            for row in self._database.rows(SESSIONS).find(begun, {"_id": 1}, session=unit):
                Log(self._database, row["_id"]).delete()
            return (
                self._database.rows(kind).delete_one({"_id": key}, session=unit).deleted_count == 1
            )

        return self._database.transaction(lambda: self._database.run(work))

    def cascade(self, work: Callable[[], bool]) -> bool:
        return self._database.transaction(work)

    def append(self, session_id: str, entries: Sequence[Entry], at: int) -> list[int]:
        with self._database.turn(session_id):
            return self._database.run(lambda: Append(self._database, session_id, at).run(entries))

    def position(self, session_id: str, entry_id: str) -> int:
        return self._database.run(lambda: Log(self._database, session_id).position(entry_id))

    def read(self, session_id: str, window: Window) -> Slice:
        log = Log(self._database, session_id)
        return self._database.run(lambda: log.read(window))

    def count(self, session_id: str) -> int:
        return self._database.run(lambda: Log(self._database, session_id).count())

    def truncate(self, session_id: str, entry_id: str | None) -> int:
        with self._database.turn(session_id):
            return self._database.run(lambda: Log(self._database, session_id).truncate(entry_id))

    def where(self, kind: str, key: str, position: int | None = None) -> str:
        return self._database.where(kind, key, position)

    def ping(self) -> None:
        self._database.ping()

    def close(self) -> None:
        self._database.close()

    def _document(self, kind: str, row: Mapping[str, Any]) -> Document:
        try:
            return Document(row["_id"], text_of(row), row["created_at"], row["updated_at"])
        except KeyError as error:
            where = f"{self._database.where(kind, row['_id'])}, field {error}"
            raise CorruptRecordError(kind.removesuffix("s"), row["_id"], where) from error
