"""`create_persistence` opens a storage; `Persistence` has the repositories over it."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from agentx_persistence.errors import ConfigurationError
from agentx_persistence.repositories import (
    ContainerRepository,
    ImageRepository,
    ItemRepository,
    SessionRepository,
)
from agentx_persistence.storage import PersistenceDriver, Storage

# The longest time-out, in seconds: about 30 years.
_LONGEST = 1_000_000_000


class Persistence:
    """The repositories of one open backend. Thread-safe; closes at the end of a ``with`` block."""

    def __init__(self, storage: Storage, contention_timeout: float = 60.0) -> None:
        """:param contention_timeout: see `create_persistence`"""
        self._storage, self._contention_timeout = storage, contention_timeout
        given = (storage, contention_timeout)
        self.containers: ContainerRepository = ContainerRepository(*given)
        self.images: ImageRepository = ImageRepository(*given)
        self.sessions: SessionRepository = SessionRepository(*given)
        self.items: ItemRepository = ItemRepository(*given)

    def __repr__(self) -> str:
        return f"<Persistence on {self._storage!r}>"

    def within(self, transaction: Any) -> Persistence:
        """Return the same repositories inside the caller's open transaction.

        Their calls neither commit nor roll it back, and nothing is repeated. Its isolation level
        applies. On MySQL and MariaDB, use READ COMMITTED: in REPEATABLE READ, reading the messages
        of a session that the transaction has changed raises `RecordConflictError` if others have
        changed them since its snapshot.

        :param transaction: on SQL a SQLAlchemy ``Connection`` or ``orm.Session`` on the same
            database, not in AUTOCOMMIT; on MongoDB a ``ClientSession`` with a transaction, of the
            client that was given to `mongodb_driver`
        :raises ConfigurationError: on other backends, and for any other transaction
        """
        return Persistence(self._storage.within(transaction), self._contention_timeout)

    def ping(self) -> None:
        """Check that the backend answers.

        :raises BackendUnavailableError: if it does not
        """
        self._storage.ping()

    def close(self) -> None:
        """Close the connections and files that this opened. A second call does nothing.

        A call that is under way in another thread finishes or raises `PersistenceClosedError`.
        """
        self._storage.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def create_persistence(
    target: PersistenceDriver | str | None = None,
    *,
    contention_timeout: float = 60.0,
    **options: Any,
) -> Persistence:
    """Connect and check at once; return the open repositories.

    :param target: a URL, such as ``sqlite:///agentx.db`` or ``postgresql://user@host/database``;
        or a driver; or nothing, for a store in memory
    :param contention_timeout: for how many seconds `update`, `update_metadata`, `rewrite`,
        `pop_message` and `add_messages` are repeated while others keep changing the same record or
        session
    :param options: with a URL, the options of its driver's function; a driver takes none
    :raises BackendUnavailableError: if the backend cannot be reached, within seconds
    :raises ConfigurationError: if repeating cannot help, such as a wrong password
    :raises SchemaError: if its tables are missing, outdated or too new; says what to do
    """
    if type(contention_timeout) not in (int, float) or not 0 <= contention_timeout <= _LONGEST:
        reason = f"contention_timeout must be a number of seconds from 0 to {_LONGEST:,}"
        raise ConfigurationError("create_persistence", reason)
    if target is None:
        target = "memory:"
    if isinstance(target, str):
        from agentx_persistence.schemes import driver_for

        target = driver_for(target, options)
    elif options:
        reason = f"{next(iter(options))!r} is an option of a driver; give it to the driver"
        raise ConfigurationError("create_persistence", reason)
    if not isinstance(target, PersistenceDriver):
        reason = f"the target must be a URL or a driver, not {type(target).__name__}"
        raise ConfigurationError("create_persistence", reason)
    return Persistence(target.create_storage(), contention_timeout)
