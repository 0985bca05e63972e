"""One MongoDB database: its client, collections and indexes, and where pymongo's errors end."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from threading import Lock
from typing import Any, TypeVar

import bson
from bson.codec_options import CodecOptions
from pymongo import ASCENDING, IndexModel, MongoClient, ReadPreference, WriteConcern
from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    ConnectionFailure,
    DuplicateKeyError,
    InvalidName,
    InvalidOperation,
    OperationFailure,
    PyMongoError,
    WTimeoutError,
)
from pymongo.read_concern import ReadConcern

from agentx_persistence.documents.store import CONTAINERS, IMAGES, SESSIONS
from agentx_persistence.errors import (
    BackendError,
    BackendUnavailableError,
    InvalidRecordError,
    PersistenceClosedError,
    PersistenceError,
    RecordTooLargeError,
    SchemaError,
)
from agentx_persistence.forking import ForkAware, renew_after_fork

T = TypeVar("T")
Client = MongoClient[dict[str, Any]]
Rows = Collection[dict[str, Any]]

MESSAGES = "messages"

# `place` puts documents into the order of listings: see `mongodb.py`.
INDEXES: dict[str, list[tuple[str, ...]]] = {
    CONTAINERS: [("place",)],
    IMAGES: [
        ("place",),
        ("container_id", "place"),
        ("name", "place"),
        ("container_id", "name", "place"),
    ],
    SESSIONS: [
        ("place",),
        ("container_id", "place"),
        ("image_id", "place"),
        ("container_id", "image_id", "place"),
    ],
}
_UNIQUE: dict[str, list[tuple[str, ...]]] = {
    MESSAGES: [("session_id", "position"), ("session_id", "message_id")],
}
# Named to deletions, whose filters go beyond it: no server is then left to find it, or to miss it.
BY_POSITION = [("session_id", ASCENDING), ("position", ASCENDING)]

# An election takes about 12 seconds by default; a call that meets one gets over it.
_PATIENCE = 15.0
_CONTENTION_SECONDS = 60.0

_PASSING_LABELS = ("RetryableWriteError", "TransientTransactionError")
_WRITE_CONFLICT = 112
_INDEX_OPTIONS_CONFLICT, _INDEX_KEY_SPECS_CONFLICT, _DUPLICATE_KEY = 85, 86, 11000

# The server fills a batch up to 16 MB, unless it is told to send fewer documents.
BATCH = 100_000
_UTF8_BYTES = 4
# What a document holds beside its text: four ids or names at most, numbers and field names.
_BESIDE_TEXT = 10_000

# A damaged text reaches the check of its record, instead of failing the whole answer.
_CODEC: CodecOptions[dict[str, Any]] = CodecOptions(unicode_decode_error_handler="surrogateescape")
# On a stand-alone server, "majority" alone would acknowledge what is not on disk yet.
_DURABLE = WriteConcern("majority", j=True, wtimeout=10_000)
_MAJORITY, _LATEST = ReadConcern("majority"), ReadConcern("local")


class Database(ForkAware):
    """Every access is one function that can be run again from its start."""

    def __init__(
        self, connect: Callable[[], Client], client: Client | None, name: str, prefix: str
    ) -> None:
        """:param client: the caller's own; without it, `connect` makes one"""
        self._connect, self._owned, self.name, self._prefix = connect, client is None, name, prefix
        self._client = client or connect()
        self._inherited: list[Client] = []
        self._closed = False
        self._rows: dict[tuple[str, bool], Rows] = {}
        self._local = threading.local()
        self._turns = _new_turns()
        self._max_size, self._has_transactions = 0, False
        renew_after_fork(self)

    def after_fork(self) -> None:
        if self._owned and not self._closed:
            # The parent goes on using its connections. They are kept here, unused: collected, they
            # would be reported as never closed; closed, they would end the parent's sessions.
            self._inherited.append(self._client)
            self._client = self._connect()
        self._rows = {}
        self._local = threading.local()
        self._turns = _new_turns()

    def open(self) -> None:
        """Connect, and make the indexes that are missing; many processes may do so at once."""
        try:
            hello = self._client.admin.command("hello")
        except PyMongoError as error:
            raise BackendUnavailableError("mongodb", f"{self.name}: {error}") from error
        self._max_size = hello["maxBsonObjectSize"]
        self._has_transactions = "setName" in hello or hello.get("msg") == "isdbgrid"
        try:
            for unique, indexes in ((False, INDEXES), (True, _UNIQUE)):
                for kind, fields in indexes.items():
                    self.rows(kind).create_indexes(
                        [
                            IndexModel([(name, ASCENDING) for name in names], unique=unique)
                            for names in fields
                        ]
                    )
        except OperationFailure as error:
            if error.code in (_INDEX_OPTIONS_CONFLICT, _INDEX_KEY_SPECS_CONFLICT, _DUPLICATE_KEY):
                raise SchemaError(
                    f"database {self.name!r} has other indexes: {error}",
                    "use another database_name or collection_prefix, or drop those indexes",
                ) from error
            raise self._translated(error) from error
        except PyMongoError as error:
            raise self._translated(error) from error

    def ping(self) -> None:
        self._check_open()
        try:
            self._client.admin.command("ping")
        except PyMongoError as error:
            raise self._translated(error) from error

    def close(self) -> None:
        self._closed = True
        if self._owned:
            self._client.close()

    def rows(self, kind: str, *, latest: bool = False) -> Rows:
        """Return the collection.

        :param latest: read what the primary has, even if a majority does not have it yet, as
            those who write must
        """
        try:
            return self._rows[kind, latest]
        except KeyError:
            rows = self._rows[kind, latest] = self._new_rows(kind, latest)
            return rows

    def _new_rows(self, kind: str, latest: bool) -> Rows:
        try:
            return self._client.get_database(self.name).get_collection(
                self._prefix + kind,
                codec_options=_CODEC,
                read_preference=ReadPreference.PRIMARY,
                write_concern=_DURABLE,
                read_concern=_LATEST if latest else _MAJORITY,
            )
        except InvalidName as error:
            raise InvalidRecordError("argument", "database_name", str(error)) from error

    def where(self, kind: str, key: str, position: int | None = None) -> str:
        if position is None:
            return f"mongodb, {self.name}.{self._prefix}{kind}, _id {key!r}"
        messages = f"{self.name}.{self._prefix}{MESSAGES}"
        return f"mongodb, {messages}, session_id {key!r}, position {position}"

    def check_size(self, kind: str, id: str, row: Mapping[str, Any]) -> None:
        """:raises RecordTooLargeError: if the server would refuse the document"""
        limit = self._max_size
        if _UTF8_BYTES * len(row["text"]) > limit - _BESIDE_TEXT:
            size = len(bson.encode(row))
            if size > limit:
                raise RecordTooLargeError(kind, id, size, limit)

    def turn(self, key: str) -> Lock:
        """Return what the threads of this process hold while they change what has this key.

        Between processes the server decides; but each who is late there has asked in vain.
        """
        return self._turns[hash(key) % len(self._turns)]

    @property
    def unit(self) -> ClientSession | None:
        """The session whose transaction this thread is in."""
        return getattr(self._local, "unit", None)

    def run(self, work: Callable[[], T]) -> T:
        """Run `work`, which can be repeated, until it is done; bounded."""
        if self.unit is not None:
            return work()  # The transaction as a whole is repeated, not its steps.
        started = time.monotonic()
        pause = 0.02
        while True:
            self._check_open()
            try:
                return work()
            except PyMongoError as error:
                if not _is_passing(error) or time.monotonic() - started > _PATIENCE:
                    raise self._translated(error) from error
            time.sleep(pause * random.uniform(0.5, 1.5))
            pause = min(2 * pause, 1.0)

    def transaction(self, work: Callable[[], T]) -> T:
        """Run `work`, which can be repeated, in one transaction if the server has them."""
        if not self._has_transactions or self.unit is not None:
            return work()

        def attempt() -> T:
            with (
                self._client.start_session() as unit,
                unit.start_transaction(_LATEST, _DURABLE, ReadPreference.PRIMARY),
            ):
                self._local.unit = unit
                try:
                    return work()
                finally:
                    self._local.unit = None

        try:
            return self.run(attempt)
        except BackendError as error:
            if not isinstance(error.__cause__, OperationFailure):
                raise
        # What is too large for a transaction, or takes too long, is done step by step. A step that
        # fails by itself fails again, and is reported.
        return work()

    def attempts(self, what: str) -> Iterator[None]:
        """Yield for each attempt to get ahead of other writers, with pauses; bounded.

        Somebody always gets ahead, so that it is the bound that is met only by very many.
        """
        began = time.monotonic()
        deadline = began + _CONTENTION_SECONDS
        pauses = 0
        while began < deadline:
            yield
            # In units of what an attempt takes here, as on a shared line.
            pauses = min(pauses + 1, 4)
            time.sleep(random.uniform(0, pauses * (time.monotonic() - began)))
            began = time.monotonic()
        raise BackendUnavailableError("mongodb", f"{self.name}: too many write to {what} at once")

    def _check_open(self) -> None:
        if self._closed:
            raise PersistenceClosedError

    def _translated(self, error: PyMongoError) -> PersistenceError:
        if self._closed and (_is_passing(error) or isinstance(error, InvalidOperation)):
            # What `close` did to a connection in use is no failure of the server.
            return PersistenceClosedError()
        kind = BackendUnavailableError if _is_passing(error) else BackendError
        return kind("mongodb", f"{self.name}: {error}")


def text_of(row: Mapping[str, Any]) -> str:
    """Return the stored text; of one that is damaged, something that its check refuses."""
    text = row.get("text")
    if isinstance(text, bytes):
        return text.decode(errors="surrogateescape")
    return text if isinstance(text, str) else ""


def _new_turns() -> list[Lock]:
    return [Lock() for _ in range(64)]


def is_duplicate(error: PyMongoError) -> bool:
    """Tell whether a unique index refused a document."""
    if isinstance(error, BulkWriteError):
        return any(each["code"] == _DUPLICATE_KEY for each in error.details["writeErrors"])
    return isinstance(error, DuplicateKeyError)


def _is_passing(error: PyMongoError) -> bool:
    if isinstance(error, BulkWriteError):
        return bool(error.details["writeConcernErrors"]) and not error.details["writeErrors"]
    return (
        # Two that create one document at the same moment: the second one replaces it.
        isinstance(error, (AutoReconnect, ConnectionFailure, WTimeoutError, DuplicateKeyError))
        or any(error.has_error_label(label) for label in _PASSING_LABELS)
        or (isinstance(error, OperationFailure) and error.code == _WRITE_CONFLICT)
    )
