"""Sending commands to the nodes of a Redis Cluster, and finding out which nodes it has.

redis-py's client knows the node of each key. Its `execute_command` and `pipeline` are not used.
After a time-out they ask one node after the other for the slots, then send each command of a
pipeline again on its own. Each of these steps can take `socket_timeout`.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Sequence
from typing import Any

from redis.cluster import ClusterNode
from redis.exceptions import AskError, MovedError, RedisClusterException, RedisError

from agentx_persistence._redis.pool import Command, exchange_with

_logger = logging.getLogger("agentx_persistence")

# How many nodes are asked for the slots, until one has answered; and how many seconds this takes
# at most, if a call has no more time left.
_ASKED, _LEAST = 6, 1.0


class Cluster:
    def __init__(self, client: Any) -> None:
        self._client, self._known = client, client.get_nodes()
        # Another thread asks for the slots until this time of `time.monotonic()`. It is no lock, as
        # an interrupt could leave that locked.
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

    def _send(self, commands: Sequence[Command]) -> list[Any]:
        numbers: dict[str, list[int]] = {}
        pools: dict[str, Any] = {}
        for number, command in enumerate(commands):
            key = command[3 if command[0] in ("EVALSHA", "EVAL") else 1]
            node = self._client.get_node_from_key(key)
            numbers.setdefault(node.name, []).append(number)
            pools[node.name] = self._client.get_redis_connection(node).connection_pool
        replies: list[Any] = [None] * len(commands)

        def send(nodes: Sequence[str]) -> None:
            # The commands of all nodes are sent before the first reply is read.
            if nodes:
                own = numbers[nodes[0]]
                sent = [commands[number] for number in own]
                found = exchange_with(pools[nodes[0]], sent, lambda: send(nodes[1:]))
                for number, reply in zip(own, found, strict=True):
                    replies[number] = reply

        send(list(numbers))
        return replies

    def _ask(self, error: AskError, command: Command) -> Any:
        """Send a command to the node that its slot is moving to."""
        node = self._client.get_node(error.host, error.port)
        if node is None:
            return error  # a new node, which the next attempt knows
        pool = self._client.get_redis_connection(node).connection_pool
        return exchange_with(pool, [("ASKING",), command])[1]

    def refresh(self, seconds: float) -> None:
        """Ask some nodes, one after the other, for the slots, unless another thread is doing so.

        :param seconds: in which each node has an equal share
        """
        now, seconds = time.monotonic(), max(seconds, _LEAST)
        if now < self._asking_until:
            return
        self._asking_until = now + seconds
        manager = self._client.nodes_manager
        # A node that belongs to no cluster any more names no others.
        self._known = self._client.get_nodes() or self._known
        asked = random.sample(self._known, min(len(self._known), _ASKED))
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
        try:
            manager.startup_nodes = {node.name: node for node in nodes}
            manager.initialize()
        except (RedisError, RedisClusterException, IndexError) as error:
            # The call is repeated with the slots that were known before. redis-py raises an
            # IndexError if there are no slots.
            _logger.warning("redis: no node of the cluster has said where the slots are: %r", error)
        finally:
            self._asking_until = 0.0
            for node in nodes:
                node.redis_connection.connection_pool.disconnect()
