"""The MongoDB backend: a stand-alone server, a replica set, or a sharded cluster; 4.4 or newer.

There are five collections. A document of `containers`, `images`, `sessions` and `items` holds the
record as exact JSON text, and beside it the fields by which it is found; `messages` has one
document for each message (`_mongodb/log.py` says how they make a log). Texts are never taken apart:
as sub-documents they would lose what BSON cannot hold (integers beyond 64 bits, keys such as
``$ref``).

Sharding. No collection has to be sharded; these keys fit the unique indexes and the queries:

* `messages`: ``{session_id: 1}``. Appending and reading ask one shard. It is the only large one.
  MongoDB 5.1 or newer is needed then.
* The others: leave them unsharded, and each query asks one shard. Where they outgrow that,
  ``{_id: "hashed"}``: then all but listings still ask one shard.

Interrupts. An exception that a signal's handler raises inside pymongo (Ctrl-C, a time limit) can
leave its pool damaged. A client that this driver opened is then replaced, and the main thread has
one of its own, as signals' handlers run there: so `maxPoolSize` counts for the main thread and for
the others each. A caller's own client cannot be replaced: after an interrupt, make a new one.

A caller's own client cannot be used in a child process after `os.fork`, as pymongo says of all its
clients (https://pymongo.readthedocs.io/en/stable/faq.html#is-pymongo-fork-safe); a client that this
driver opened is replaced there.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, unquote

from agentx_persistence.errors import (
    ConfigurationError,
    InvalidRecordError,
    MissingDependencyError,
)

try:
    from pymongo import MongoClient
    from pymongo.errors import PyMongoError
except ModuleNotFoundError as error:
    raise MissingDependencyError("mongodb", "pymongo") from error

from agentx_persistence._mongodb.clients import Client, SafePool
from agentx_persistence._mongodb.database import Database
from agentx_persistence._mongodb.scope import Scope
from agentx_persistence._mongodb.storage import MongoStorage
from agentx_persistence.storage import PersistenceDriver, Storage

# Where neither the caller nor the connection string says otherwise.
_OPTIONS: dict[str, Any] = {
    "serverSelectionTimeoutMS": 3_000,
    "connectTimeoutMS": 3_000,
    "socketTimeoutMS": 30_000,
    "waitQueueTimeoutMS": 30_000,
    "appname": "agentx-persistence",
}


def mongodb_driver(
    connection_string: str = "mongodb://localhost:27017",
    *,
    database_name: str = "agentx",
    collection_prefix: str = "",
    client: Client | None = None,
    patience: float = 15.0,
    **options: Any,
) -> PersistenceDriver:
    """Return the driver of a MongoDB database, whose indexes are made on opening.

    :param collection_prefix: what the names of the collections begin with
    :param client: the caller's own, used instead of the connection string and never closed; what
        it says of write concern, read concern and read preference does not count here, but its
        time limits do; it cannot be repaired after an interrupt
    :param patience: for how many seconds a call is repeated while the server cannot be reached, as
        in an election; and for four times as long while other writers change the same session
    :param options: anything that `pymongo.MongoClient` takes, such as ``tls=True`` or
        ``maxPoolSize=20``; they go before what the connection string says
    """
    return _MongoDriver(
        connection_string, database_name, collection_prefix, client, patience, options
    )


def driver_from_url(url: str, **options: Any) -> PersistenceDriver:
    """Return the driver of a ``mongodb://`` or ``mongodb+srv://`` URL; its path is the database."""
    path = url.partition("://")[2].partition("?")[0].partition("/")[2]
    if path:
        options.setdefault("database_name", unquote(path))
    return mongodb_driver(url, **options)


class _MongoDriver(PersistenceDriver):
    def __init__(
        self,
        connection_string: str,
        database_name: str,
        collection_prefix: str,
        client: Client | None,
        patience: float,
        options: dict[str, Any],
    ) -> None:
        _check(client, patience)
        self._connection_string, self._options = connection_string, options
        self._database_name, self._collection_prefix = database_name, collection_prefix
        self._client, self._patience = client, patience

    def __repr__(self) -> str:
        # No connection string: it can hold a password at more than one place.
        return (
            f"mongodb_driver(database_name={self._database_name!r}, "
            f"collection_prefix={self._collection_prefix!r})"
        )

    def create_storage(self) -> Storage:
        database = Database(
            self._connect,
            self._client,
            self._database_name,
            self._collection_prefix,
            self._patience,
        )
        try:
            database.open()
        except BaseException:
            database.close()
            raise
        return MongoStorage(Scope(database))

    def _connect(self) -> Client:
        said = {name.lower() for name, _ in parse_qsl(self._connection_string.partition("?")[2])}
        said |= {name.lower() for name in self._options}
        defaults = {name: value for name, value in _OPTIONS.items() if name.lower() not in said}
        try:
            # Connecting is left to the first command: this is called in the midst of a fork, too.
            return MongoClient(
                self._connection_string,
                connect=False,
                _pool_class=SafePool,
                **{**defaults, **self._options},
            )
        except (PyMongoError, ValueError, TypeError) as error:
            # What pymongo says can quote the connection string, and with it the password.
            reason = "the connection string or an option is refused by pymongo"
            raise ConfigurationError("mongodb", f"{reason} ({type(error).__name__})") from None


def _check(client: Client | None, patience: float) -> None:
    """:raises InvalidRecordError: if an argument cannot be used; no server is asked"""
    if client is not None and not isinstance(client, MongoClient):
        reason = f"must be a pymongo.MongoClient, not {type(client).__name__}"
        raise InvalidRecordError("argument", "client", reason)
    if not isinstance(patience, (int, float)) or not patience > 0:
        raise InvalidRecordError("argument", "patience", "must be a positive number of seconds")
