"""A proxy that counts the round trips between a client and its server, or leads to another one."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.servers.process import free_port


class Proxy:
    """While it is open, connections to `port` are connections to the server."""

    def __init__(self, host: str, port: int) -> None:
        self._server = host, port
        self.port = free_port()
        self._counted = threading.Lock()
        self._asked: set[socket.socket] = set()
        self.round_trips = 0

    @contextmanager
    def open(self) -> Iterator[Proxy]:
        with socket.create_server(("127.0.0.1", self.port)) as listener:
            threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
            yield self
            listener.shutdown(socket.SHUT_RDWR)

    def lead_to(self, host: str, port: int) -> None:
        """Let new connections be connections to this server."""
        self._server = host, port

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:  # closed
                return
            try:
                server = socket.create_connection(self._server)
            except OSError:  # it is down
                client.close()
                continue
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for arguments in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._copy, args=arguments, daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket, is_client: bool) -> None:
        key = source if is_client else target
        with source:
            # Either end may be reset, which is told to the other one like an end.
            with suppress(OSError):
                while data := source.recv(65536):
                    self._count(key, is_client)
                    target.sendall(data)
            with suppress(OSError):
                target.shutdown(socket.SHUT_WR)

    def _count(self, client: socket.socket, is_client: bool) -> None:
        # However many packets a question has, it is one until the server answers.
        with self._counted:
            if not is_client:
                self._asked.discard(client)
            elif client not in self._asked:
                self._asked.add(client)
                self.round_trips += 1
