"""Talking over a connection of redis-py's pool.

Its `execute_command` and `pipeline` take about as long as the server does, for what is done here by
those who call: repeating, and telling what an answer is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agentx_persistence._redis.client import Command


def exchange(pool: Any, commands: Sequence[Command], refusal: type[Exception]) -> list[Any]:
    """Send the commands at once; return what comes back for each, as bytes and not decoded.

    :param refusal: what redis-py raises if it is an error that comes back; it is returned, too
    """
    connection = pool.get_connection()
    try:
        connection.send_packed_command([b"".join(map(_packed, commands))])
        return [_reply(connection, refusal) for _ in commands]
    except BaseException:
        connection.disconnect()  # what still comes back would be taken for the next answer
        raise
    finally:
        pool.release(connection)


def _packed(command: Command) -> bytes:
    """Return an array of bulk strings (https://redis.io/docs/latest/develop/reference/protocol-spec)"""
    parts = [b"*%d\r\n" % len(command)]
    for argument in command:
        value = argument if isinstance(argument, bytes) else str(argument).encode()
        parts += (b"$%d\r\n" % len(value), value, b"\r\n")
    return b"".join(parts)


def _reply(connection: Any, refusal: type[Exception]) -> Any:
    try:
        return connection.read_response(disable_decoding=True)
    except refusal as error:
        return error
