"""Sending commands to the nodes of a Redis Cluster, and finding out which nodes it has.

redis-py's client knows the node of each key. Its `execute_command` and `pipeline` are not used.
After a time-out they ask one node after the other for the slots, then send each command of a
pipeline again on its own. Each of these steps can take `socket_timeout`.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from redis.cluster import ClusterNode
from redis.exceptions import AskError, MovedError, RedisClusterException, RedisError

from agentx_persistence._redis.pool import Command, Pool, exchange_with

# `Pool.exchange` of the node's pool.
Exchange = Callable[..., list[Any]]

_logger = logging.getLogger("agentx_persistence")

# How many nodes are asked for the slots, until one has answered; and how many seconds this takes
# at most, if a call has no more time left.
_ASKED, _LEAST = 6, 1.0


class Cluster:
    def __init__(self, client: Any, limit: int | None, wait: float | None) -> None:
        """:param limit: how many connections to a node there can be
        :param wait: for how many seconds a call waits for one of them; ``None`` if the client is
            the caller's, whose own pools are then used
        """
        self._client = client
        self._limit, self._wait = limit, wait
        self._pools: dict[str, Pool] = {}
        # Another thread asks for the slots until this time of `time.monotonic()`. There is no lock,
        # because an interrupt could leave it locked.
        self._asking_until = 0.0

    def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """Send each command to the node of its key; return the replies as `pool.exchange` does."""
        replies = self._send(commands)
        if moved := [n for n, reply in enumerate(replies) if isinstance(reply, MovedError)]:
            self.refresh(_LEAST)
            again = self._send([commands[number] for number in moved])
            for number, reply in zip(moved, again, strict=True):
                replies[number] = reply
        for number, reply in enumerate(replies):
            if isinstance(reply, AskError) and not isinstance(reply, MovedError):
                replies[number] = self._ask(reply, commands[number])
        return replies

    def primaries(self) -> list[Exchange]:
        """Return a function for each primary, which sends commands to it."""
        return [self._exchange_with(node) for node in self._client.get_primaries()]

    def disconnect(self) -> None:
        """Disconnect all connections that are not in use."""
        for pool in list(self._pools.values()):
            pool.disconnect()
        for node in self._client.get_nodes():
            if node.redis_connection is not None:
                node.redis_connection.connection_pool.disconnect(inuse_connections=False)

    def close(self) -> None:
        for pool in list(self._pools.values()):
            pool.closed = True
        self.disconnect()

    def _exchange_with(self, node: Any) -> Exchange:
        model = self._client.get_redis_connection(node).connection_pool
        if self._wait is None:
            return partial(exchange_with, model)
        try:
            return self._pools[node.name].exchange
        except KeyError:
            new = Pool(model, self._limit, self._wait)
            return self._pools.setdefault(node.name, new).exchange

    def _send(self, commands: Sequence[Command]) -> list[Any]:
        numbers: dict[str, list[int]] = {}
        exchanges: dict[str, Exchange] = {}
        for number, command in enumerate(commands):
            key = command[3 if command[0] in ("EVALSHA", "EVAL") else 1]
            node = self._client.get_node_from_key(key)
            if node.name not in numbers:
                numbers[node.name], exchanges[node.name] = [], self._exchange_with(node)
            numbers[node.name].append(number)
        # The order is the same in all threads, because they may wait for each other's connections.
        parts = [(exchanges[name], numbers[name]) for name in sorted(numbers)]
        replies: list[Any] = [None] * len(commands)
        _exchange_parts(parts, commands, replies)
        return replies

    def _ask(self, error: AskError, command: Command) -> Any:
        """Send a command to the node that its slot is moving to."""
        node = self._client.get_node(error.host, error.port)
        if node is None:
            return error  # a new node, which the next attempt knows
        return self._exchange_with(node)([("ASKING",), command])[1]

    def refresh(self, seconds: float) -> None:
        """Ask some nodes, one after the other, for the slots, unless another thread is doing so.

        :param seconds: in which each node has an equal share
        """
        now, seconds = time.monotonic(), max(seconds, _LEAST)
        if now < self._asking_until:
            return
        self._asking_until = now + seconds
        manager = self._client.nodes_manager
        given = manager.startup_nodes
        asked = self._some_of(given)
        limits = dict.fromkeys(("socket_timeout", "socket_connect_timeout"), seconds / len(asked))
        options = {**manager.connection_kwargs, **limits}
        nodes = [
            ClusterNode(  # type: ignore[no-untyped-call]
                node.host,
                node.port,
                redis_connection=manager.create_redis_node(node.host, node.port, **options),
            )
            for node in asked
        ]
        asking = {node.name: node for node in nodes}
        try:
            manager.startup_nodes = asking
            manager.initialize()
        except (RedisError, RedisClusterException, IndexError) as error:
            # The call is repeated with the slots that were known before. redis-py raises an
            # IndexError if there are no slots.
            _logger.warning(
                "redis: no node of the cluster has answered which node has which slots: %s", error
            )
        finally:
            self._asking_until = 0.0
            if manager.startup_nodes is asking:
                manager.startup_nodes = given
            for node in nodes:
                node.redis_connection.connection_pool.disconnect()

    def _some_of(self, given: dict[str, Any]) -> list[Any]:
        """Return nodes to ask. At least one is given but not known, if there is such a node.

        With redis-py's `dynamic_startup_nodes=False`, that is the address in the URL. It leads to
        the cluster even if all known nodes have new addresses.
        """
        known = {node.name: node for node in self._client.get_nodes()}
        some = random.sample([*known.values()], min(len(known), _ASKED - 1))
        others = [node for name, node in given.items() if name not in known]
        return some + random.sample(others, min(len(others), _ASKED - len(some)))


def _exchange_parts(
    parts: Sequence[tuple[Exchange, list[int]]], commands: Sequence[Command], replies: list[Any]
) -> None:
    """Send the commands of all nodes before the first reply is read.

    A function inside a method would call itself through a cycle of references, which would keep the
    replies until the next garbage collection.
    """
    if parts:
        (exchange, numbers), *others = parts
        sent = [commands[number] for number in numbers]
        found = exchange(sent, partial(_exchange_parts, others, commands, replies))
        for number, reply in zip(numbers, found, strict=True):
            replies[number] = reply
