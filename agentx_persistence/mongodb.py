"""The MongoDB backend: a stand-alone server, a replica set, or a sharded cluster; 4.4 or newer.

There are five collections. A document of `containers`, `images`, `sessions` and `items` holds the
record as exact JSON text, and the fields by which it is found; `messages` has one document for each
message (`_mongodb/log.py` explains how they form a log). Records are stored as text because
sub-documents would lose what BSON cannot hold (integers beyond 64 bits, keys such as ``$ref``).

Sharding. No collection has to be sharded. These shard keys fit the unique indexes and the queries:

* `messages`, the only large collection: ``{session_id: 1}``. Appending and reading then use one
  shard. This needs MongoDB 5.1 or newer.
* The other collections: leave them unsharded, so that each query uses one shard. If they outgrow
  one shard, use ``{_id: "hashed"}``. Then calls for one id still use one shard. Deletions
  of a container or an image ask all shards, as listings and counts do.

Interrupts. An exception that a signal handler raises inside pymongo (Ctrl-C, a time limit) can
leave its pool damaged. A client that this driver opened is then replaced. Signal handlers run in
the main thread, so the main thread has a client of its own, and `maxPoolSize` applies to it and to
the client of all other threads separately. A caller's own client cannot be replaced: make a new one
after an interrupt.

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

# Defaults of options that neither the caller nor the connection string sets.
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
    """Return the driver of a MongoDB database. Missing indexes are created on opening.

    :param collection_prefix: a prefix for the names of the collections
    :param client: the caller's own client, instead of the connection string. It is never closed.
        Its time limits apply, but not its write concern, read concern and read preference. It
        cannot be repaired after an interrupt
    :param patience: for how many seconds a call is repeated while the server cannot be reached, as
        in an election, and, times four, while other writers change the same session
    :param options: arguments of `pymongo.MongoClient`, such as ``tls=True`` or ``maxPoolSize=20``.
        They override the connection string, and cannot be given together with a client
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
        _check(client, patience, options)
        self._connection_string, self._options = connection_string, options
        self._database_name, self._collection_prefix = database_name, collection_prefix
        self._client, self._patience = client, patience

    def __repr__(self) -> str:
        # Without the connection string, which can contain a password in more than one place.
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
            # The first command connects, not this call, which may come during a fork.
            return MongoClient(
                self._connection_string,
                connect=False,
                _pool_class=SafePool,
                **{**defaults, **self._options},
            )
        except (PyMongoError, OSError, ValueError, TypeError) as error:
            # An OSError is about the file of a certificate. pymongo's message can quote the
            # connection string with its password.
            raise ConfigurationError(
                "mongodb",
                "the connection string or an option is refused by pymongo"
                f" ({type(error).__name__}); write mongodb://user:password@host:27017/database,"
                " in user and password @ as %40, : as %3A, / as %2F and % as %25, and check the"
                " names and values of the options",
            ) from None


def _check(client: Client | None, patience: float, options: dict[str, Any]) -> None:
    """:raises InvalidRecordError: if an argument has the wrong type or value"""
    if client is not None and options:
        reason = f"cannot be given together with options ({', '.join(options)})"
        raise InvalidRecordError("argument", "client", reason)
    if client is not None and not isinstance(client, MongoClient):
        reason = f"must be a pymongo.MongoClient, not {type(client).__name__}"
        raise InvalidRecordError("argument", "client", reason)
    if not isinstance(patience, (int, float)) or not patience > 0:
        raise InvalidRecordError("argument", "patience", "must be a positive number of seconds")
