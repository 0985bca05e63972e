"""Connections out of SQLAlchemy's pool, for the driver's own cursors and for units of work.

Checking a connection out of the pool and in again costs more than reading a row of SQLite. So what
was checked out for a cursor stays at hand afterwards, on a list whose `pop` and `append` are all
that most calls need: they take no lock. It goes back to the pool when somebody waits for one there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition
from typing import TYPE_CHECKING
from weakref import WeakSet

from sqlalchemy import Connection, Engine, exc

from agentx_persistence._sql.flavour import Flavour
from agentx_persistence._sql.leases import Lease, LostConnectionError, NoConnectionError, Pooled
from agentx_persistence.errors import PersistenceClosedError, PersistenceError

if TYPE_CHECKING:
    from sqlalchemy import orm

# What a child got from its parent, for as long as the child lives: nothing may close it.
_forgotten: list[object] = []
# The generation of a connection that is lent. One that comes back to the pool in any way but by
# `_check_in` (collected after an interruption, say) keeps it, and is not used again.
_LENT = object()


class Connections:
    def __init__(
        self, engine: Engine, flavour: Flavour, *, owned: bool, recycle: float | None
    ) -> None:
        """:param recycle: seconds after which a connection is replaced, if ever"""
        self._engine = engine
        self._flavour = flavour
        self._owned = owned
        self._recycle = float("inf") if recycle is None or recycle < 0 else recycle
        # A caller's engine may be in any mode, which SQLAlchemy puts back when it gets a connection
        # back; and the caller may need it. Of the own ones, those that overflow are not kept.
        self._keep = engine.pool.size() if owned else 0  # type: ignore[attr-defined]
        self._closed = False
        self._dbapi = engine.dialect.loaded_dbapi
        # When one connection turns out to be lost, all of its generation are given up: a server
        # that was restarted has ended every one that idles in the pool.
        self._generation = object()
        self._origin = object()
        self._start()

    def _start(self) -> None:
        self._at_hand: list[Lease] = []
        # Weak, as an interruption such as Ctrl-C can come where nobody else knows a lease yet.
        self._leases: WeakSet[Lease] = WeakSet()
        self._changed = Condition()
        self._waiting = 0
        self._shut = False
        # Whether leases must not stay at hand, because of any of the three above.
        self._wanted = self._closed

    def take(self) -> Lease:
        """Lend a connection in autocommit.

        :raises NoConnectionError: if the database gives none
        """
        while True:
            now = time.monotonic()
            try:
                lease = self._at_hand.pop()
            except IndexError:
                return self._check_out(self._connect)
            # No call from here on: Ctrl-C would leave the lease to a traceback.
            if lease.generation is self._generation and now - lease.since < self._recycle:
                return lease
            self._check_in(lease)

    def give_back(self, lease: Lease) -> None:
        """Take a connection back that can be used again."""
        self._at_hand.append(lease)
        # In this order: who waits looks at the list after it has said so.
        if self._wanted:
            self._clear()
        elif len(self._at_hand) > self._keep:
            self._check_in_one(surplus=self._owned)

    def give_up(self, lease: Lease, error: BaseException) -> None:
        """Take a connection back whose use ended with this error.

        :raises LostConnectionError: if it is gone
        """
        lost = self._is_lost(lease, error)
        if lost and lease.generation is self._generation:
            self._generation = object()
        if lost or not self.is_usable(lease, error):
            lease.pooled.invalidate(error)
        self._check_in(lease)
        if lost:
            raise LostConnectionError from error

    @contextmanager
    def unit(self) -> Iterator[orm.Session]:
        """Lend a unit of work, which is one transaction.

        :raises LostConnectionError: if the connection is gone, or there was none
        """
        from sqlalchemy import orm  # who gets here has paid for it: see `units`

        lease = self._check_out(self._engine.connect)
        try:
            connection = lease.pooled
            assert isinstance(connection, Connection)
            if self._owned:
                self._flavour.begin_unit(lease.connection)
            else:
                level = self._flavour.unit_isolation
                connection.execution_options(isolation_level=level)
            with orm.Session(connection) as unit, unit.begin():
                try:
                    yield unit
                except BaseException as error:
                    if not self.is_usable(lease, error):
                        connection.invalidate(error)  # before a rollback is tried on it
                    raise
        except BaseException as error:
            self.give_up(lease, error)
            raise
        self._check_in(lease)

    @contextmanager
    def left_to_engine(self) -> Iterator[None]:
        """Keep none of the engine's connections, and hold a fork off as if one were lent."""
        lease = self._admit()
        try:
            with self._wait():
                self._clear()
                yield
        finally:
            self._forget(lease)

    def is_usable(self, lease: Lease, error: BaseException) -> bool:
        """Tell whether the connection can be used after this error."""
        if self._flavour.in_process:
            return True
        # What else there is, such as Ctrl-C or an error of a signal's handler, may have broken off
        # in the middle of a conversation.
        known = (self._dbapi.Error, exc.DBAPIError, PersistenceError)
        return isinstance(error, known) and not self._is_lost(lease, error)

    def _is_lost(self, lease: Lease, error: BaseException) -> bool:
        if isinstance(error, exc.DBAPIError):
            return error.connection_invalidated
        return isinstance(error, self._dbapi.Error) and self._engine.dialect.is_disconnect(
            error, lease.connection, None
        )

    def _connect(self) -> Pooled:
        if self._owned:
            return self._engine.raw_connection()
        return self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")

    def _check_out(self, connect: Callable[[], Pooled]) -> Lease:
        lease = self._admit()
        try:
            with self._wait():
                self._check_in_one()
                is_new = self._open(lease, connect)
        except BaseException:
            self._forget(lease)
            raise
        if is_new:
            try:
                self._flavour.welcome(lease.connection)
            except BaseException as error:
                lease.generation = None  # so that it is welcomed once more
                self.give_up(lease, error)
                raise
        return lease

    @contextmanager
    def _wait(self) -> Iterator[None]:
        """Have connections come back to the pool as long as somebody waits for one there."""
        with self._changed:
            if self._closed:
                raise PersistenceClosedError
            self._waiting += 1
            self._wanted = True
        try:
            yield
        finally:
            with self._changed:
                self._waiting -= 1
                self._wanted = bool(self._waiting or self._shut or self._closed)

    def _admit(self) -> Lease:
        lease = Lease()
        with self._changed:
            while self._shut:
                self._changed.wait()
            self._leases.add(lease)
        return lease

    def _open(self, lease: Lease, connect: Callable[[], Pooled]) -> bool:
        """Check a connection out; tell whether it is used for the first time."""
        while True:
            current = self._generation
            try:
                pooled = connect()
            except (self._dbapi.Error, exc.DBAPIError) as error:
                raise NoConnectionError from error
            proxied = pooled.connection if isinstance(pooled, Connection) else pooled
            generation, since = proxied.info.get(self._origin, (None, time.monotonic()))
            if generation in (None, current) or self._flavour.in_memory:
                break
            pooled.invalidate()
            pooled.close()
        lease.pooled, lease.connection, lease.info = pooled, proxied.dbapi_connection, proxied.info
        lease.generation, lease.since = current, since
        lease.info[self._origin] = (_LENT, since)
        return generation is None

    def _check_in(self, lease: Lease) -> None:
        lease.info[self._origin] = (lease.generation, lease.since)
        try:
            lease.pooled.close()
        finally:
            self._forget(lease)

    def _forget(self, lease: Lease) -> None:
        with self._changed:
            self._end_idle()
            self._leases.discard(lease)
            self._changed.notify_all()

    def _clear(self) -> None:
        """Check in what is at hand."""
        while self._check_in_one():
            pass

    def _check_in_one(self, *, surplus: bool = False) -> bool:
        try:
            lease = self._at_hand.pop(0)
        except IndexError:
            return False
        if surplus:
            lease.pooled.invalidate()
        self._check_in(lease)
        return True

    def close(self) -> None:
        """Close what is at hand now, and what is lent when it comes back."""
        with self._changed:
            self._closed = self._wanted = True
        lease = self._admit()  # a fork waits until the connections are closed
        self._clear()
        self._forget(lease)

    def _end_idle(self) -> None:
        # Who waits in the pool gets what comes back to it, and is not left there.
        if self._closed and self._owned and not self._waiting:
            # Not the engine's `dispose`: that makes a new pool and leaves what is lent to the old.
            self._engine.pool.dispose()

    def shut(self) -> None:
        """Return when nothing is lent; nothing is from then on."""
        with self._changed:
            self._shut = self._wanted = True
        while True:
            self._clear()
            with self._changed:
                if not self._leases:
                    return
                # Not for ever: a lease that an interruption lost is collected without notice.
                self._changed.wait(0.1)

    def reopen(self) -> None:
        """Lend again."""
        with self._changed:
            self._shut = False
            self._wanted = bool(self._waiting or self._closed)
            self._changed.notify_all()

    def restart_in_child(self, *, forget: bool) -> None:
        """Begin anew after a fork.

        :param forget: leave the connections, which the parent goes on using, alone: never close one
        """
        if forget:
            _forgotten.extend([self._engine.pool, *self._at_hand, *self._leases])
            self._engine.dispose(close=False)
        self._start()
