"""Processes that share a store, and calls inside calls."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentx_persistence import (
    BackendError,
    BackendUnavailableError,
    Persistence,
    create_persistence,
)
from agentx_persistence._fs import documents, files
from agentx_persistence._fs.index import Index
from agentx_persistence.fs import fs_driver
from tests.backends.fs import place
from tests.contract.records import container, image, message, saved_session, session, texts
from tests.drivers.killing import exit_status, in_child


@pytest.fixture
def persistence(base: Path) -> Iterator[Persistence]:
    with create_persistence(fs_driver(base, timeout=0.3)) as persistence:
        yield persistence


def _suspend(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def _suspended(work: Callable[[], object]) -> int:
    """Run the work in a child; return its id when it has suspended itself."""
    pid = in_child(work)
    _, status = os.waitpid(pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    return pid


def test_a_suspended_append_delays_only_writers_of_the_same_session(
    base: Path, persistence: Persistence
) -> None:
    persistence.sessions.add_message(saved_session(persistence), message("1"))
    saved_session(persistence, "other")

    def work() -> None:
        sync = os.fsync
        os.fsync = lambda descriptor: (_suspend(), sync(descriptor))[1]  # type: ignore[assignment]
        persistence.sessions.add_message("session", message("2"))

    pid = _suspended(work)
    try:
        begun = time.monotonic()
        for call in (
            lambda: persistence.sessions.add_message("session", message()),
            lambda: persistence.sessions.save(session()),
            lambda: persistence.sessions.delete("session"),
        ):
            with pytest.raises(BackendUnavailableError, match=rf"locks/\w\w .*process {pid}\b"):
                call()
        assert time.monotonic() - begun < 3
        with create_persistence(fs_driver(base)) as another:
            assert texts(another)[0] == "1"
            assert another.sessions.add_message("other", message()) == 1
            assert [s.session_id for s in another.sessions.find_all()] == ["other", "session"]
    finally:
        os.kill(pid, signal.SIGCONT)
    assert exit_status(pid) == 0
    assert texts(persistence) == ["1", "2"]
    assert persistence.sessions.add_message("session", message()) == 3


def test_a_suspended_change_of_the_index_delays_no_reader_and_no_opening(
    base: Path, persistence: Persistence
) -> None:
    persistence.images.save(image("one"))
    saved_session(persistence)
    persistence.sessions.add_message("session", message("1"))
    persistence.images.save(image("gone"))
    place(base, "images", "gone")[0].unlink()  # a row that has no record

    def work() -> None:
        documents.Index.write = _in_the_midst(Index.write)  # type: ignore[method-assign]
        persistence.images.save(image("two"))

    def _in_the_midst(write: Any) -> Any:
        def writing(index: Index, work: Any, **options: Any) -> Any:
            documents.Index.write = write  # type: ignore[method-assign]
            return write(index, lambda connection: (_suspend(), work(connection))[1], **options)

        return writing

    pid = _suspended(work)
    try:
        with create_persistence(fs_driver(base, timeout=0.3)) as another:
            assert [i.image_id for i in another.images.find_all()] == ["one"]
            assert texts(another) == ["1"]
            assert another.sessions.get("session")
            with pytest.raises(BackendUnavailableError, match=rf"locks/index .*process {pid}\b"):
                another.images.save(image("three"))
            assert not another.images.exists("three")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert exit_status(pid) == 0
    assert {i.image_id for i in persistence.images.find_all()} == {"one", "two"}
    assert persistence.images.count() == 2


def test_a_killed_process_leaves_no_lock(base: Path, persistence: Persistence) -> None:
    saved_session(persistence)

    def work() -> None:
        os.fsync = _suspend  # type: ignore[assignment]
        persistence.sessions.add_message("session", message("never acknowledged"))

    pid = _suspended(work)
    os.kill(pid, signal.SIGKILL)
    exit_status(pid)
    assert persistence.sessions.add_message("session", message()) in (1, 2)


@pytest.mark.parametrize("step", ["write_all", "sync", "sync_folder"])
def test_a_call_inside_a_call_of_the_same_thread_is_refused_at_once(
    persistence: Persistence, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    saved_session(persistence)
    original = getattr(files, step)
    refused: list[str] = []

    def handler(*_: object) -> None:
        begun = time.monotonic()
        with pytest.raises(BackendError, match="signal's handler") as raised:
            persistence.sessions.add_message("session", message())
        assert time.monotonic() - begun < 0.2
        refused.append(str(raised.value))

    def signalled(*arguments: Any) -> None:
        monkeypatch.setattr(files, step, original)
        signal.raise_signal(signal.SIGUSR1)
        original(*arguments)

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        monkeypatch.setattr(files, step, signalled)
        if step == "sync_folder":
            persistence.images.save(image())
        else:
            persistence.sessions.add_message("session", message("1"))
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert len(refused) == 1
    assert persistence.sessions.add_message("session", message()) in (1, 2)


class _Interrupt(Exception):
    pass


# The system closes what an interrupt kept Python from closing by a `with`, and says so.
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.usefixtures("unheard_destructors")
def test_interrupts_at_any_moment_lose_nothing_and_leave_no_lock_and_no_descriptor(
    base: Path, persistence: Persistence
) -> None:
    rounds = int(os.environ.get("AGENTX_TEST_INTERRUPTS", "300"))
    saved_session(persistence)
    open_before = len(os.listdir("/proc/self/fd"))

    def interrupt(*_: object) -> None:
        raise _Interrupt

    acknowledged: list[str] = []
    before = signal.signal(signal.SIGALRM, interrupt)
    held: list[BaseException] = []
    interrupted = 0
    try:
        for number in range(rounds):
            id = f"m{number}"
            try:
                # Again after a while: Python drops what is raised while a finalizer runs.
                signal.setitimer(signal.ITIMER_REAL, 0.0001 + (number * 37 % 100) * 0.00003, 0.1)
                while True:
                    persistence.images.save(image("image", name=str(number), created_at=number))
                    persistence.sessions.add_message("session", message(id=id))
                    acknowledged.append(id)
                    id += "x"
                    if number % 10 == 0:
                        persistence.sessions.delete("other")
                        saved_session(persistence, "other")
            except _Interrupt as error:
                signal.setitimer(signal.ITIMER_REAL, 0)
                interrupted += 1
                held[:] = [*held[-5:], error]  # whose frames live on
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupted == rounds
    stored = [m.id for m in persistence.sessions.iter_messages("session")]
    assert [id for id in stored if id in set(acknowledged)] == acknowledged
    assert len(set(stored)) == len(stored)
    held.clear()
    assert len(os.listdir("/proc/self/fd")) <= open_before + 2
    with create_persistence(fs_driver(base, timeout=0.3)) as another:
        assert [m.id for m in another.sessions.iter_messages("session")] == stored
        saved = another.images.get("image")
        assert another.images.find_all() == [saved]
        assert another.images.find_all(name=saved.name) == [saved]
        assert another.images.count() == 1


def test_a_folder_that_is_deleted_takes_nothing_more(base: Path, persistence: Persistence) -> None:
    persistence.images.save(image())
    saved_session(persistence)
    shutil.rmtree(base)
    for call in (
        lambda: persistence.sessions.add_message("session", message()),
        lambda: persistence.images.save(image()),
        lambda: persistence.images.get("image"),
        lambda: persistence.images.find_all(),
        lambda: persistence.sessions.get_messages("session"),
        persistence.ping,
    ):
        with pytest.raises(BackendUnavailableError, match=str(base)):
            call()
    assert not base.exists()


def _failing(monkeypatch: pytest.MonkeyPatch, at: int) -> Callable[[], bool]:
    """Let the disk be full at this one of all writes; return what tells whether it was met."""
    done = 0

    def full(original: Any, error: BaseException) -> Any:
        def write(*arguments: Any, **options: Any) -> Any:
            nonlocal done
            done += 1
            if done == at:
                raise error
            return original(*arguments, **options)

        return write

    for module, name in ((os, "write"), (os, "fsync"), (os, "mkdir"), (os, "replace")):
        error: BaseException = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        monkeypatch.setattr(module, name, full(getattr(module, name), error))
    index_full = sqlite3.OperationalError("database or disk is full")
    monkeypatch.setattr(Index, "write", full(Index.write, index_full))
    return lambda: done >= at


def test_a_disk_that_is_full_at_any_write_loses_nothing(tmp_path: Path) -> None:
    def work(persistence: Persistence) -> None:
        persistence.images.save(image("image", name="new", container_id="other"))
        persistence.sessions.save(session("more", image_id="image"))
        persistence.sessions.add_messages("session", [message(id=f"b{n}") for n in range(300)])
        persistence.sessions.truncate_after("session", "m1")
        persistence.sessions.replace_message("session", message("n", id="m0"))
        persistence.sessions.fork("session", session("copy"))
        persistence.containers.delete("box")

    failed: list[str] = []
    for at in range(1, 200):
        base = tmp_path / str(at)
        with create_persistence(fs_driver(base)) as persistence:
            persistence.containers.save(container())
            persistence.images.save(image("image", name="old"))
            saved_session(persistence)
            persistence.sessions.add_messages("session", [message(id=f"m{n}") for n in range(3)])
            with pytest.MonkeyPatch.context() as patch:
                met = _failing(patch, at)
                try:
                    work(persistence)
                except BackendError as error:
                    failed.append(str(error))
            if not met():
                break
            for _ in range(2):
                with create_persistence(fs_driver(base)) as reopened:
                    for opened in (persistence, reopened):
                        _check_whole(opened)
            work_again = persistence
            work_again.containers.save(container())
            work_again.containers.delete("box")
            work_again.containers.delete("other")
            assert work_again.images.find_all() == []
    else:
        pytest.fail("it has more writes than that")
    assert len(failed) == at - 1
    assert all("full" in error or "No space" in error for error in failed)


def _check_whole(persistence: Persistence) -> None:
    images = persistence.images.find_all()
    assert persistence.images.count() == len(images) <= 1
    for found in images:
        assert persistence.images.find_all(name=found.name) == images
        other = "old" if found.name == "new" else "new"
        assert persistence.images.find_all(name=other) == []
    for found in persistence.sessions.find_all():
        ids = [m.id for m in persistence.sessions.get_messages(found.session_id)]
        kept = [f"m{n}" for n in range(3)]
        assert ids in ([], kept[:2], kept, [*kept, *(f"b{n}" for n in range(300))])


def test_threads_wait_for_each_other_no_longer_than_the_time_out(
    base: Path, persistence: Persistence, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved_session(persistence)
    inside, go_on = threading.Event(), threading.Event()
    sync = files.sync

    def slow(descriptor: int) -> None:
        monkeypatch.setattr(files, "sync", sync)
        inside.set()
        go_on.wait(10)
        sync(descriptor)

    monkeypatch.setattr(files, "sync", slow)
    first = threading.Thread(target=persistence.sessions.add_message, args=("session", message()))
    first.start()
    assert inside.wait(5)
    with pytest.raises(BackendUnavailableError, match=rf"process {os.getpid()}\b"):
        persistence.sessions.add_message("session", message())
    go_on.set()
    first.join()
    assert persistence.sessions.count_messages("session") == 1
