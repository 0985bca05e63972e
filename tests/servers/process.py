from __future__ import annotations

import atexit
import functools
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

import pytest

UNPRIVILEGED = "nobody"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def given(name: str) -> str | None:
    """Return the server that the caller of the tests named for this backend, if any."""
    return os.environ.get(f"AGENTX_TEST_{name.upper()}_URL")


def not_installed(what: str) -> NoReturn:
    """Skip what needs this server. Where everything has to run, as in .ci/run, fail instead."""
    if "AGENTX_TEST_ALL" in os.environ:
        pytest.fail(what)
    pytest.skip(f"NOT TESTED: {what}")


def hand_over(folder: Path) -> None:
    """Give the folder to the user that servers run as: most refuse to run as root."""
    if os.geteuid() == 0:
        for parent in reversed(folder.parents):
            # pytest makes its folders private to root; the server has to get through them.
            if parent.stat().st_uid == 0 and parent.is_relative_to(tempfile.gettempdir()):
                parent.chmod(parent.stat().st_mode | 0o011)
        shutil.chown(folder, UNPRIVILEGED)


@functools.cache
def wheel_folder(package: str) -> Path | None:
    """Return the folder of a package that brings a server; ``None`` if it is not installed.

    Root's files need not be open to the user that servers run as, so that may be a copy.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).resolve().parent
    if os.geteuid() != 0 or all(parent.stat().st_mode & 0o001 for parent in folder.parents):
        return folder
    copy = Path(tempfile.mkdtemp(prefix="agentx-programs-"))
    atexit.register(shutil.rmtree, copy, ignore_errors=True)
    copy.chmod(0o755)
    for tree in (folder, folder.with_name(f"{package}.libs")):
        if tree.exists():
            shutil.copytree(tree, copy / tree.name, symlinks=True)
    return copy / package


@contextmanager
def server_folder(name: str) -> Iterator[Path]:
    """Lend a folder for a server. Not pytest's: each run that starts makes those private again."""
    with tempfile.TemporaryDirectory(prefix=f"agentx-{name}-") as folder:
        yield Path(folder)


class ServerProcess:
    """A server that a test session started, and may stop, kill and start again."""

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        is_ready: Callable[[], object],
        *,
        environment: Mapping[str, str] | None = None,
        seconds: float = 60,
        user: str | None = UNPRIVILEGED,
        end: signal.Signals = signal.SIGTERM,
    ) -> None:
        """:param is_ready: raises as long as the server does not answer
        :param end: ends the server in order, without waiting for its clients
        :param user: who runs it if the tests run as root; ``None`` for root, too
        """
        self._command, self._folder, self._is_ready = list(command), folder, is_ready
        self._environment = {**os.environ, **(environment or {})}
        self._seconds = seconds
        self._user = user if os.geteuid() == 0 else None
        self._in_order = end
        self._process: subprocess.Popen[bytes] | None = None
        self.log = folder / "server.log"

    def start(self, *more: str) -> None:
        """:param more: further arguments, this time"""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._command, *more],
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=self._user,
                start_new_session=True,
            )
        deadline = time.monotonic() + self._seconds
        while True:
            try:
                self._is_ready()
                return
            except Exception as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self.stop()
                    raise RuntimeError(
                        f"{self._command[0]} did not start: {error}\n{self.log.read_text()[-3000:]}"
                    ) from error
            time.sleep(0.05)

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Stop the server and its processes for a while: its sockets stay open, nobody answers."""
        assert self._process is not None
        stopped: list[int] = []
        try:
            _suspend(self._process.pid, stopped)
            yield
        finally:
            for pid in stopped:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def stop(self) -> None:
        """End the server in order; a second time does nothing."""
        self._end(self._in_order)

    def kill(self) -> None:
        """End the server as a crash would."""
        self._end(signal.SIGKILL)

    @property
    def runs(self) -> bool:
        return self._process is not None

    def suspend(self) -> None:
        """Let the server do nothing, as if the network to it were cut; its clients wait."""
        for process in self._all():
            _stop(process)

    def resume(self) -> None:
        for process in self._all():
            os.kill(process, signal.SIGCONT)

    def _all(self) -> list[int]:
        assert self._process
        own = self._process.pid
        children = Path(f"/proc/{own}/task/{own}/children").read_text().split()
        return [own, *map(int, children)]

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _suspend(pid: int, stopped: list[int]) -> None:
    """Stop a process, which then starts no other one, and those that it has started."""
    with suppress(ProcessLookupError, FileNotFoundError):
        _stop(pid)
        stopped.append(pid)
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in (thread / "children").read_text().split():
                _suspend(int(child), stopped)


def _stop(pid: int) -> None:
    """Stop a process, and wait until each of its threads has stopped: one could still answer."""
    os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + 10
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # it ended
            # The state comes after the name, which can contain anything.
            while (thread / "stat").read_text().rpartition(")")[2].split()[0] not in "TtZX":
                assert time.monotonic() < deadline, f"process {pid} does not stop"
                time.sleep(0.001)
