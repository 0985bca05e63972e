"""A proxy that cuts connections at the worst moments, in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import random
import re
import signal
import socket
import struct
import threading
import time
from collections.abc import Sequence
from typing import Any

from tests.drivers.killing import exit_status, in_child

# What a cut can do: the server never gets the question; it has answered, but the answer does not
# arrive; half of the answer does.
BEFORE, AFTER, AMID = range(3)
_ANSWER = 65536


class FaultyProxy:
    """Connections to each of `ports` are connections to the server of the same place.

    :param change: matches a question that changes something; only its answer is worth withholding
    """

    def __init__(
        self, servers: Sequence[tuple[str, int]], change: re.Pattern[bytes], seed: int
    ) -> None:
        self._servers, self._change, self._seed = servers, change, seed
        # Shared with the process that does the work.
        self._chances = multiprocessing.RawArray("d", 3)
        self._delay = multiprocessing.RawValue("d", 0.0)
        self.cuts: Any = multiprocessing.RawArray("l", 3)
        self._listeners = [socket.create_server(("127.0.0.1", 0)) for _ in servers]
        self.ports = [listener.getsockname()[1] for listener in self._listeners]
        self._counted = threading.Lock()
        self._process = in_child(self._work)
        for listener in self._listeners:
            listener.close()

    def cut(self, before: float = 0.0, after: float = 0.0, amid: float = 0.0) -> None:
        """Cut connections with these chances for each question."""
        self._chances[:] = [before, after, amid]

    def delay(self, seconds: float) -> None:
        """Keep each answer back for so long."""
        self._delay.value = seconds

    def close(self) -> None:
        os.kill(self._process, signal.SIGKILL)
        exit_status(self._process)

    def _work(self) -> None:
        self._random = random.Random(self._seed)
        for listener, server in zip(self._listeners, self._servers, strict=True):
            threading.Thread(target=self._accept, args=(listener, server), daemon=True).start()
        parent = os.getppid()
        while os.getppid() == parent:
            time.sleep(1)

    def _accept(self, listener: socket.socket, server: tuple[str, int]) -> None:
        while True:
            client, _ = listener.accept()
            threading.Thread(target=self._serve, args=(client, server), daemon=True).start()

    def _serve(self, client: socket.socket, server: tuple[str, int]) -> None:
        try:
            upstream = socket.create_connection(server, 5)
        except OSError:
            return self._reset(client)
        upstream.settimeout(None)
        for one in (client, upstream):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # What to do with the next answer; set when its question is sent.
        planned: list[int] = []
        back = threading.Thread(target=self._answers, args=(upstream, client, planned), daemon=True)
        back.start()
        try:
            while question := client.recv(_ANSWER):
                if self._chance(BEFORE):
                    self._count(BEFORE)
                    break
                if self._change.search(question) and not planned:
                    planned += [how for how in (AFTER, AMID) if self._chance(how)][:1]
                upstream.sendall(question)
        except OSError:
            self._reset(client)
        self._reset(upstream)
        self._reset(client)

    def _answers(self, upstream: socket.socket, client: socket.socket, planned: list[int]) -> None:
        try:
            while answer := upstream.recv(_ANSWER):
                if self._delay.value:
                    time.sleep(self._delay.value)
                if planned:
                    self._count(planned[0])
                    if planned[0] == AMID:
                        client.sendall(answer[: len(answer) // 2])
                    break
                client.sendall(answer)
        except OSError:
            self._reset(client)
        self._reset(upstream)
        self._reset(client)

    def _chance(self, how: int) -> bool:
        return self._random.random() < self._chances[how]

    def _count(self, how: int) -> None:
        with self._counted:
            self.cuts[how] += 1

    @staticmethod
    def _reset(connection: socket.socket) -> None:
        """End the connection as a crash of the other end would."""
        try:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # it is ended already
        finally:
            connection.close()
