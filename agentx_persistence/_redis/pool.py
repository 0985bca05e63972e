"""A pool of redis-py's connections, in which an interrupt at any moment costs one connection.

redis-py's own pool takes back a connection whose handshake was interrupted, and each interrupt
lowers the number of its available connections by one. The methods `execute_command` and `pipeline`
of redis-py's client take about as long as the server does.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

from redis.connection import ConnectionPool, PythonRespSerializer
from redis.exceptions import AuthenticationError, ConnectionError, ResponseError, TimeoutError

from agentx_persistence.errors import BackendUnavailableError

Argument = bytes | str | int
Command = tuple[Argument, ...]

# After this many seconds without use, a connection is checked before its next use.
_IDLE = 1.0
# Commands of more bytes than this are sent in pieces of this size, each with its own time-out.
LARGE = 2**20
# The lowest speed, in bytes a second, at which a server is expected to process a large command.
_SLOWEST = 2**20

# The protocol's header of a value, by the size of the value.
_SIZES = [b"\r\n$%d\r\n" % size for size in range(1000)]


def _encoded(argument: Argument) -> bytes:
    return argument if isinstance(argument, bytes) else str(argument).encode()


# Used instead of hiredis' packing, which crashes the process if a signal handler raises inside it.
PACKER = PythonRespSerializer(LARGE, _encoded)


class NodePool(ConnectionPool):
    """The pool of a node, for redis-py's client of a cluster."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"command_packer": PACKER, **options})


class NotSentError(ConnectionError):
    """Connecting failed, so that nothing was sent."""


class Pool:
    """The connections of one process to one server."""

    def __init__(self, model: ConnectionPool, limit: int | None, wait: float) -> None:
        """:param model: redis-py's pool, which says how to connect
        :param wait: for how many seconds a call waits for one of `limit` connections
        """
        options = {"command_packer": PACKER, **model.connection_kwargs}
        self._make: Callable[[], Any] = partial(model.connection_class, **options)
        self._limit, self._wait = limit, wait
        self.closed = False
        # The methods of a SimpleQueue are written in C, and can be called in a signal handler.
        self._free: SimpleQueue[_Slot | weakref.ref[_Slot]] = SimpleQueue()
        # If there is a limit, the calls under way, and their threads.
        self._inside: dict[object, int] = {}
        # If there is a limit, all slots. An interrupt can lose one that a call has just taken. Its
        # dead reference then goes into the queue, in C, which no interrupt can prevent.
        self._slots: list[weakref.ref[_Slot]] = []
        # The call that adds slots, as long as it does.
        self._filling: dict[str, weakref.ref[_Filling]] = {}
        if limit is not None:
            self._fill(limit)

    def exchange(
        self, commands: Sequence[Command], meanwhile: Callable[[], None] | None = None
    ) -> list[Any]:
        """Send the commands at once; return the replies, as the function `exchange` does."""
        if self._limit is None:
            return self._exchange(commands, meanwhile)
        call, me = object(), threading.get_ident()
        if list(self._inside.values()).count(me) >= self._limit:
            raise BackendUnavailableError(
                "redis",
                "this call is inside other calls of its thread, which use all connections;"
                " make it after those, or raise max_connections",
            )
        try:
            self._inside[call] = me
            return self._exchange(commands, meanwhile)
        finally:
            self._inside.pop(call, None)

    def _exchange(
        self, commands: Sequence[Command], meanwhile: Callable[[], None] | None
    ) -> list[Any]:
        slot, end = None, time.monotonic() + self._wait
        try:
            while not isinstance(slot, _Slot):
                slot = self._take(end)
            # A connection is in its slot only between two calls, so that one whose use was
            # interrupted is never used again.
            connection, slot.connection = slot.connection, None
            if connection is None or not _is_usable(connection, slot.used):
                connection = self._make()
                try:
                    connection.connect()
                except (ConnectionError, TimeoutError) as error:
                    if isinstance(error, AuthenticationError):
                        raise
                    raise NotSentError(*error.args) from error
            replies = exchange(connection, commands, meanwhile)
            slot.used, slot.connection = time.monotonic(), connection
        finally:
            if slot is not None:
                self._free.put(slot)
                slot = None  # a traceback that is kept would keep it alive when it is lost later
            if self.closed:
                self.disconnect()
        return replies

    def _take(self, end: float) -> _Slot | weakref.ref[_Slot]:
        """Return the next slot, or the dead reference of a lost one."""
        try:
            return self._free.get_nowait()
        except Empty:
            if self._limit is None:
                return _Slot()
        self._fill(self._limit)
        try:
            return self._free.get(timeout=max(0.0, end - time.monotonic()))
        except Empty:
            raise BackendUnavailableError(
                "redis", f"all {self._limit} connections were in use for {self._wait} s"
            ) from None

    def _fill(self, limit: int) -> None:
        """Add the slots that are missing: at first all of them, later those that were lost."""
        filling = _Filling()
        entry = weakref.ref(filling, partial(self._filling.pop, ""))
        if self._filling.setdefault("", entry) is entry:  # else another call is adding them
            self._slots = [slot for slot in self._slots if slot() is not None]
            for _ in range(limit - len(self._slots)):
                slot = _Slot()
                self._slots.append(weakref.ref(slot, self._free.put))
                self._free.put(slot)

    def close(self) -> None:
        """Disconnect all connections, but those that are in use only afterwards."""
        self.closed = True
        self.disconnect()

    def disconnect(self) -> None:
        """Disconnect all connections that are not in use."""
        for _ in range(self._free.qsize()):
            try:
                slot = self._free.get_nowait()
            except Empty:
                return
            if isinstance(slot, _Slot):
                connection, slot.connection = slot.connection, None
                if connection is not None:
                    connection.disconnect()
                if self._limit is not None:
                    self._free.put(slot)


class _Slot:
    """A place for one connection, which may be empty."""

    __slots__ = ("__weakref__", "connection", "used")

    def __init__(self) -> None:
        self.connection: Any = None
        self.used = 0.0


class _Filling:
    """Exists as long as its call of `Pool._fill`, however that ends."""

    __slots__ = ("__weakref__",)


def exchange(
    connection: Any, commands: Sequence[Command], meanwhile: Callable[[], None] | None = None
) -> list[Any]:
    """Send the commands at once; return the reply to each, in bytes, or its ResponseError.

    After any other exception the connection is closed.

    :param meanwhile: called after sending, before the first reply is read
    """
    try:
        packed = b"".join(map(_packed, commands))
        if len(packed) <= LARGE:
            connection.send_packed_command([packed])
        else:
            view = memoryview(packed)
            pieces = [view[start : start + LARGE] for start in range(0, len(packed), LARGE)]
            connection.send_packed_command(pieces)
        if meanwhile is not None:
            meanwhile()
        if len(packed) > LARGE:
            patience = (connection.socket_timeout or 0) + len(packed) / _SLOWEST
            if connection.socket_timeout and not connection.can_read(patience):
                raise TimeoutError("Timeout reading from socket")
        return [_reply(connection) for _ in commands]
    except BaseException:
        connection.disconnect()  # a late reply would be taken for the reply to another command
        raise


def exchange_with(
    pool: Any, commands: Sequence[Command], meanwhile: Callable[[], None] | None = None
) -> list[Any]:
    """Send the commands as `exchange` does, over a connection of redis-py's pool."""
    try:
        connection = pool.get_connection()
    except BaseException:
        # The pool has taken back the connection, although its handshake was interrupted.
        pool.disconnect(inuse_connections=False)
        raise
    try:
        return exchange(connection, commands, meanwhile)
    finally:
        pool.release(connection)


def _is_usable(connection: Any, used: float) -> bool:
    """Return whether the connection still works; if it does not, close it."""
    if time.monotonic() - used < _IDLE:
        return True
    with suppress(ConnectionError, TimeoutError, OSError):
        if not connection.can_read():
            return True
    connection.disconnect()
    return False


def _packed(command: Command) -> bytes:
    """Return the command as an array of bulk strings.

    See https://redis.io/docs/latest/develop/reference/protocol-spec.
    """
    parts = [b"*%d" % len(command)]
    for argument in command:
        value = argument if isinstance(argument, bytes) else str(argument).encode()
        size = len(value)
        parts += (_SIZES[size] if size < 1000 else b"\r\n$%d\r\n" % size, value)
    parts.append(b"\r\n")
    return b"".join(parts)


def _reply(connection: Any) -> Any:
    try:
        return connection.read_response(disable_decoding=True)
    except ResponseError as error:
        return error
