"""One MongoDB database: its client, its collections and its indexes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bson.codec_options import CodecOptions
from pymongo import ASCENDING, IndexModel, ReadPreference, WriteConcern
from pymongo.errors import InvalidName, OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern

from agentx_persistence._mongodb.clients import Client, Clients, Rows
from agentx_persistence._mongodb.failures import translated
from agentx_persistence._mongodb.turns import Turns
from agentx_persistence.errors import (
    BackendUnavailableError,
    ConfigurationError,
    InvalidRecordError,
    PersistenceClosedError,
    SchemaError,
)
from agentx_persistence.storage import KINDS, Kind
from agentx_persistence.storage._forking import ForkAware, renew_after_fork

Row = dict[str, Any]

MESSAGES = "messages"


def indexes_of(kind: Kind) -> list[tuple[str, ...]]:
    """Return the indexes of a kind; `ordering.py` says what `place` and `active` are."""
    placed = [(*names, "place") for names in kind.indexes]
    return placed + [(*names, "active") for names in kind.active]


# Both contain `log`, so that messages can be stored before they belong to a log; see `log.py`.
BY_POSITION = [("session_id", ASCENDING), ("position", ASCENDING), ("log", ASCENDING)]
BY_MESSAGE_ID = [("session_id", ASCENDING), ("message_id", ASCENDING), ("log", ASCENDING)]

_INDEX_CONFLICTS = {85, 86, 11000}
_MONGODB_4_4 = 9  # the first wire version with $unionWith

# The server fills a batch up to 16 MB, unless it is asked for fewer documents.
BATCH = 100_000

# With this, a text that is not UTF-8 is returned as damaged, instead of failing the whole answer.
_CODEC: CodecOptions[Row] = CodecOptions(unicode_decode_error_handler="surrogateescape")
# On a stand-alone server, "majority" alone acknowledges writes that are not on disk yet.
DURABLE = WriteConcern("majority", j=True, wtimeout=10_000)
MAJORITY, LATEST = ReadConcern("majority"), ReadConcern("local")


class Database(ForkAware):
    def __init__(
        self,
        connect: Callable[[], Client],
        client: Client | None,
        name: str,
        prefix: str,
        patience: float,
    ) -> None:
        """:param client: the caller's own client; without it, `connect` makes the clients"""
        self.name, self.prefix = name, prefix
        self.patience, self.contention = patience, 4 * patience
        self.clients = Clients(connect, client)
        self.closed = False
        self.turns = Turns()
        self.max_size, self.has_transactions = 0, False
        renew_after_fork(self)

    def after_fork(self) -> None:
        self.clients.after_fork()
        self.turns = Turns()

    @property
    def client(self) -> Client:
        """The client that the current call of this thread uses."""
        return self.clients.mine.client

    def open(self) -> None:
        """Connect, and create the missing indexes. Many processes may do this at once."""
        self.clients.run(self._open)

    def _open(self) -> None:
        self.check_names()
        try:
            hello = self.client.admin.command("hello")
        except PyMongoError as error:
            found = translated(error, self.name)
            if isinstance(found, ConfigurationError):
                raise found from error
            raise BackendUnavailableError("mongodb", f"{self.name}: {error}") from error
        if hello["maxWireVersion"] < _MONGODB_4_4:
            raise ConfigurationError("mongodb", "the server is too old; MongoDB 4.4 is needed")
        self.max_size = hello["maxBsonObjectSize"]
        self.has_transactions = "setName" in hello or hello.get("msg") == "isdbgrid"
        try:
            for kind in KINDS:
                self.rows(kind.name, False).create_indexes(
                    [
                        IndexModel([(name, ASCENDING) for name in names])
                        for names in indexes_of(kind)
                    ]
                )
            self.rows(MESSAGES, False).create_indexes(
                [IndexModel(names, unique=True) for names in (BY_POSITION, BY_MESSAGE_ID)]
            )
        except OperationFailure as error:
            if error.code in _INDEX_CONFLICTS:
                raise SchemaError(
                    f"database {self.name!r} has conflicting indexes: {error}",
                    "use another database_name or collection_prefix, or drop those indexes",
                ) from error
            raise translated(error, self.name) from error
        except PyMongoError as error:
            raise translated(error, self.name) from error

    def close(self) -> None:
        self.closed = True
        self.clients.close()

    def check_open(self) -> None:
        if self.closed:
            raise PersistenceClosedError

    def check_names(self) -> None:
        """:raises InvalidRecordError: if MongoDB does not allow these names"""
        argument = "database_name"
        try:
            database = self.client.get_database(self.name)
            argument = "collection_prefix"
            database.get_collection(self.prefix + MESSAGES)
        except (InvalidName, TypeError) as error:
            raise InvalidRecordError("argument", argument, str(error)) from error

    def rows(self, collection: str, latest: bool) -> Rows:
        used = self.clients.mine
        try:
            return used.rows[collection, latest]
        except KeyError:
            rows = used.client.get_database(self.name).get_collection(
                self.prefix + collection,
                codec_options=_CODEC,
                read_preference=ReadPreference.PRIMARY,
                write_concern=DURABLE,
                read_concern=LATEST if latest else MAJORITY,
            )
            used.rows[collection, latest] = rows
            return rows

    def where(self, kind: Kind, key: str, position: int | None = None) -> str:
        if position is None:
            return f"mongodb, {self.name}.{self.prefix}{kind.name}, _id {key!r}"
        messages = f"{self.name}.{self.prefix}{MESSAGES}"
        return f"mongodb, {messages}, session_id {key!r}, position {position}"
