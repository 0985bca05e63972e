"""Connections of redis-py, kept and used so that an interrupt at any moment costs only one.

redis-py's own pool takes back a connection whose greeting was interrupted, and loses one of
`max_connections` for each interrupt; its `execute_command` and `pipeline` take about as long as the
server does.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

from redis.connection import ConnectionPool, PythonRespSerializer
from redis.exceptions import AuthenticationError, ConnectionError, ResponseError, TimeoutError

from agentx_persistence.errors import BackendUnavailableError

Argument = bytes | str | int
Command = tuple[Argument, ...]

# After so many seconds without use a connection is looked at before the next one.
_IDLE = 1.0
# What is larger than this is sent in pieces of this size, each with a time-out of its own.
LARGE = 2**20
# What a server takes in and works off at the least, in bytes a second.
_SLOWEST = 2**20

# What comes in front of a value of this size.
_SIZES = [b"\r\n$%d\r\n" % size for size in range(1000)]


def _encoded(argument: Argument) -> bytes:
    return argument if isinstance(argument, bytes) else str(argument).encode()


# hiredis' packing crashes the process if the exception of a signal handler interrupts it.
PACKER = PythonRespSerializer(LARGE, _encoded)


class NodePool(ConnectionPool):
    """The pool of a node, for redis-py's client of a cluster."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"command_packer": PACKER, **options})


class NotSentError(ConnectionError):
    """There is no connection, so that nothing was sent."""


class Pool:
    """The connections of one process to one server."""

    def __init__(self, make: Callable[[], Any], limit: int | None, wait: float) -> None:
        """:param wait: for how many seconds a call waits for one of `limit` connections"""
        self._make, self._limit, self._wait = make, limit, wait
        self.closed = False
        # The methods of a SimpleQueue are written in C, and can be called in a signal handler.
        self._free: SimpleQueue[_Slot] = SimpleQueue()
        self._slots: weakref.WeakSet[_Slot] = weakref.WeakSet()
        for _ in range(limit or 0):
            self.add()

    def add(self) -> None:
        """Add the right to one more connection."""
        slot = _Slot(self)
        self._slots.add(slot)
        self._free.put(slot)

    def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """Send the commands at once; return the reply to each, in bytes, or its ResponseError."""
        slot = self._take()
        try:
            # In the slot only between two calls: an interrupted one is never used again.
            connection, slot.connection = slot.connection, None
            if connection is None or not _is_usable(connection, slot.used):
                connection = self._make()
                try:
                    connection.connect()
                except (ConnectionError, TimeoutError) as error:
                    if isinstance(error, AuthenticationError):
                        raise
                    raise NotSentError(*error.args) from error
            replies = exchange(connection, commands)
            slot.used, slot.connection = time.monotonic(), connection
        finally:
            slot.thread = 0
            self._free.put(slot)
            if self.closed:
                self.disconnect()
        return replies

    def _take(self) -> _Slot:
        try:
            slot = self._free.get_nowait()
        except Empty:
            if self._limit is None:
                return _Slot(None)
            me = threading.get_ident()
            if all(slot.thread == me for slot in list(self._slots)):
                raise BackendUnavailableError(
                    "redis", "this call is inside others of its thread, which have all connections"
                ) from None
            try:
                slot = self._free.get(timeout=self._wait)
            except Empty:
                raise BackendUnavailableError(
                    "redis", f"all {self._limit} connections were in use for {self._wait} s"
                ) from None
        slot.thread = threading.get_ident()
        return slot

    def disconnect(self) -> None:
        """Disconnect what is not in use."""
        for _ in range(self._free.qsize()):
            try:
                slot = self._free.get_nowait()
            except Empty:
                return
            connection, slot.connection = slot.connection, None
            if connection is not None:
                connection.disconnect()
            if self._limit is not None:
                self._free.put(slot)


class _Slot:
    """A connection, or the right to make one. One that gets lost is replaced."""

    def __init__(self, pool: Pool | None) -> None:
        self.connection: Any = None
        self.used = 0.0
        self.thread = 0
        self._pool = weakref.ref(pool) if pool else None

    def __del__(self) -> None:
        pool = None if self._pool is None else self._pool()
        if pool is not None and not pool.closed:
            pool.add()


def exchange(connection: Any, commands: Sequence[Command]) -> list[Any]:
    """Send the commands at once; return the reply to each, in bytes, or its ResponseError.

    After any other exception the connection is closed.
    """
    try:
        packed = b"".join(map(_packed, commands))
        if len(packed) <= LARGE:
            connection.send_packed_command([packed])
        else:
            view = memoryview(packed)
            pieces = [view[start : start + LARGE] for start in range(0, len(packed), LARGE)]
            connection.send_packed_command(pieces)
            patience = (connection.socket_timeout or 0) + len(packed) / _SLOWEST
            if connection.socket_timeout and not connection.can_read(patience):
                raise TimeoutError("Timeout reading from socket")
        return [_reply(connection) for _ in commands]
    except BaseException:
        connection.disconnect()  # what still comes back would be taken for the next answer
        raise


def _is_usable(connection: Any, used: float) -> bool:
    """Return whether the connection is still there; one that is not is closed."""
    if time.monotonic() - used < _IDLE:
        return True
    with suppress(ConnectionError, TimeoutError, OSError):
        if not connection.can_read():
            return True
    connection.disconnect()
    return False


def _packed(command: Command) -> bytes:
    """Return an array of bulk strings (https://redis.io/docs/latest/develop/reference/protocol-spec)"""
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
