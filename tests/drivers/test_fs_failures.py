"""What the file system refuses."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agentx_persistence import (
    BackendError,
    BackendUnavailableError,
    ConfigurationError,
    Persistence,
    RecordNotFoundError,
    create_persistence,
)
from agentx_persistence._fs import files
from agentx_persistence._fs.entries import Entries
from agentx_persistence._fs.index import Index
from agentx_persistence._fs.index_file import IndexFile
from agentx_persistence.fs import fs_driver
from tests.contract.records import image, message, saved_session, session, texts
from tests.drivers.killing import exit_status, in_child
from tests.servers.process import UNPRIVILEGED


@pytest.fixture
def persistence(base: Path) -> Iterator[Persistence]:
    with create_persistence(fs_driver(base)) as persistence:
        yield persistence


def _tree(base: Path) -> dict[str, bytes]:
    return {
        str(path): path.read_bytes()
        for path in base.rglob("*")
        if path.is_file() and path.parent.name != "locks" and "index." not in path.name
    }


@pytest.mark.parametrize("place", ["store", "store/images", "store/locks"])
def test_a_file_where_a_folder_should_be_is_an_error_at_once(tmp_path: Path, place: str) -> None:
    in_the_way = tmp_path / place
    in_the_way.parent.mkdir(exist_ok=True)
    in_the_way.write_text("mine")
    with pytest.raises(ConfigurationError, match=str(in_the_way)):
        create_persistence(fs_driver(tmp_path / "store"))
    assert in_the_way.read_text() == "mine"


def test_a_folder_that_is_gone_is_an_error_and_no_empty_answer(
    base: Path, persistence: Persistence
) -> None:
    persistence.images.save(image())
    saved_session(persistence)
    base.rename(base.with_name("unmounted"))
    base.mkdir()
    sessions, images = persistence.sessions, persistence.images
    for call in (
        persistence.ping,
        lambda: images.find("image"),
        lambda: images.exists("image"),
        lambda: images.find_all(),
        lambda: images.save(image()),
        lambda: images.delete("image"),
        lambda: sessions.get_messages("session"),
        lambda: sessions.add_message("session", message()),
        lambda: sessions.find_by_image("image"),
    ):
        with pytest.raises(BackendUnavailableError, match=str(base)):
            call()
    assert list(base.iterdir()) == []


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that another user can get to, which those of pytest are not."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def _as_nobody(work: Callable[[], None]) -> None:
    """Run `work` as a user whom permissions bind, in a child process."""

    def child() -> None:
        if os.geteuid() == 0:
            import pwd

            os.setuid(pwd.getpwnam(UNPRIVILEGED).pw_uid)
        work()

    assert exit_status(in_child(child)) == 0


def test_a_read_only_folder_can_be_read_and_says_so_when_written(public: Path) -> None:
    base = public / "store"

    def read_only() -> None:
        persistence = create_persistence(fs_driver(base))
        persistence.images.save(image())
        persistence.sessions.add_message(saved_session(persistence), message("there"))
        before = _tree(base)
        for folder in (base, *base.rglob("*")):
            folder.chmod(0o500 if folder.is_dir() else 0o400)
        for call in (
            lambda: persistence.images.save(image("image", name="new")),
            lambda: persistence.images.save(image("other")),
            lambda: persistence.images.delete("image"),
            lambda: persistence.sessions.add_message("session", message()),
            lambda: persistence.sessions.clear_messages("session"),
        ):
            with pytest.raises(ConfigurationError, match="Permission denied"):
                call()
        assert _tree(base) == before
        assert [i.name for i in persistence.images.find_all()] == ["plan"]
        assert texts(persistence) == ["there"]
        base.chmod(0o700)

    _as_nobody(read_only)


def test_a_store_in_a_read_only_folder_says_what_to_do(public: Path) -> None:
    base = public / "store"

    def opened() -> None:
        create_persistence(fs_driver(base)).close()
        for folder in (base, *base.rglob("*")):
            folder.chmod(0o500 if folder.is_dir() else 0o400)
        try:
            with pytest.raises(ConfigurationError, match=r"cannot be written.* copy the store"):
                create_persistence(fs_driver(base)).images.find_all()
        finally:
            base.chmod(0o700)

    _as_nobody(opened)


def test_a_full_disk_is_no_reason_to_delete_the_index(
    persistence: Persistence, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(*arguments: Any, **options: Any) -> Any:
        with closing(sqlite3.connect(":memory:")) as full:
            full.execute("PRAGMA max_page_count = 1")
            full.execute("CREATE TABLE more (text)")

    monkeypatch.setattr(IndexFile, "write", write)
    with pytest.raises(BackendError, match="is full") as raised:
        persistence.images.save(image())
    assert "delete" not in str(raised.value)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_IOERR_SHMSIZE, BackendError),  # a disk too full for shared memory
        (sqlite3.SQLITE_READONLY, ConfigurationError),
        (sqlite3.SQLITE_CANTOPEN, ConfigurationError),
    ],
)
def test_an_index_that_cannot_be_used_is_not_to_be_deleted(
    persistence: Persistence, monkeypatch: pytest.MonkeyPatch, code: int, kind: type[Exception]
) -> None:
    failed = sqlite3.OperationalError("from SQLite")
    failed.sqlite_errorcode = code

    def write(*arguments: Any, **options: Any) -> Any:
        raise failed

    monkeypatch.setattr(IndexFile, "write", write)
    with pytest.raises(BackendError, match="from SQLite") as raised:
        persistence.images.save(image())
    assert type(raised.value) is kind
    assert "delete" not in str(raised.value)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="only Linux has it")
def test_where_no_folder_can_be_made_is_an_error_at_once() -> None:
    with pytest.raises(BackendError, match="/proc/no"):
        create_persistence(fs_driver("/proc/no/store"))


def test_a_folder_that_cannot_be_made_is_an_error_at_once(public: Path) -> None:
    public.chmod(0o555)

    def refused() -> None:
        with pytest.raises(ConfigurationError, match="Permission denied"):
            create_persistence(fs_driver(public / "store"))

    _as_nobody(refused)
    assert list(public.iterdir()) == []


def _full(limit: int) -> None:
    """Let no file grow beyond this size: the system then refuses as it does on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))


def test_on_a_full_disk_nothing_is_half_written_and_later_it_goes_on(
    base: Path, persistence: Persistence
) -> None:
    persistence.images.save(image(name="old"))
    persistence.sessions.add_message(saved_session(persistence), message("1"))
    long = "x" * 20_000

    def child() -> None:
        for _ in range(2):
            before = _tree(base)
            _full(10_000)
            for call in (
                lambda: persistence.images.save(image(name="new", description=long)),
                lambda: persistence.images.save(image("other", description=long)),
                lambda: persistence.images.update_metadata("image", {"long": long}),
                lambda: persistence.sessions.save(session(note=long)),
                lambda: persistence.sessions.add_message("session", message(long)),
                lambda: persistence.sessions.add_messages("session", [message(), message(long)]),
            ):
                # SQLite, which writes to the index first if a second began, has words of its own.
                with pytest.raises(BackendError, match=r"File too large|disk I/O error") as raised:
                    call()
                assert isinstance(raised.value.__cause__, (OSError, sqlite3.OperationalError))
            _full(resource.RLIM_INFINITY)
            assert _tree(base) == before
            assert persistence.images.find_all(name="new") == []
            assert [i.name for i in persistence.images.find_all()] == ["old"]
            count = persistence.sessions.count_messages("session")
            assert persistence.sessions.add_message("session", message(long)) == count + 1
        assert texts(persistence) == ["1", long, long]

    assert exit_status(in_child(child)) == 0


@pytest.mark.parametrize(
    ("error", "raised", "text"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), BackendError, "No space left"),
        (KeyboardInterrupt(), KeyboardInterrupt, "^$"),
    ],
    ids=["full", "interrupted"],
)
@pytest.mark.parametrize("step", ["write_all", "fsync"])
def test_what_others_have_seen_before_it_failed_is_taken_back(
    base: Path,
    persistence: Persistence,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    error: BaseException,
    raised: type[BaseException],
    text: str,
) -> None:
    persistence.sessions.add_message(saved_session(persistence), message("1"))
    lost = message("lost", id="m2")
    module: Any = files if step == "write_all" else os
    done = getattr(module, step)

    with (
        create_persistence(fs_driver(base)) as another,
        create_persistence(fs_driver(base)) as third,
    ):
        assert texts(another) == ["1"]
        seen: list[str] = []

        def fail(*arguments: Any) -> None:
            monkeypatch.setattr(module, step, done)
            done(*arguments)
            seen.extend(texts(another))
            assert third.sessions.count_messages("session") == 2
            assert another.sessions.get_messages("session", after=lost.id) == []
            raise error

        monkeypatch.setattr(module, step, fail)
        with pytest.raises(raised, match=text):
            persistence.sessions.add_message("session", lost)
        assert seen == ["1", "lost"]
        # Of the same length, so that nothing but the generation tells the two apart.
        found = message("gone", id="m3", timestamp=lost.timestamp)
        assert persistence.sessions.add_message("session", found) == 2
        # Its next call is the repetition of what it has seen.
        assert third.sessions.add_message("session", lost) == 3
        assert texts(another) == ["1", "gone", "lost"]
    assert texts(persistence) == ["1", "gone", "lost"]


@pytest.mark.parametrize("step", ["flush", "settle"])
def test_a_text_that_was_replaced_is_gone_though_the_index_fails_afterwards(
    base: Path, persistence: Persistence, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    secret = message("secret")
    persistence.sessions.add_message(saved_session(persistence), secret)

    def fail(*arguments: Any, **options: Any) -> None:
        raise BackendUnavailableError("fs", "the index is locked")

    # A change in another second moves the session in the index, so that it has to be settled.
    monkeypatch.setattr("agentx_persistence.repositories.conversations.now", lambda: 2**52)
    changed = secret.model_copy(update={"content": "[removed]"})
    with monkeypatch.context() as patch:
        patch.setattr(Index, step, fail)
        if step == "settle":
            persistence.sessions.replace_message("session", changed)
        else:
            with pytest.raises(BackendUnavailableError, match="the index is locked"):
                persistence.sessions.replace_message("session", changed)
    (log,) = base.rglob("*.jsonl")
    assert b"secret" not in log.read_bytes()
    assert texts(persistence) == ["[removed]"]
    (listed,) = persistence.sessions.find_all()
    assert listed.updated_at == 2**52


def test_a_change_succeeds_though_the_log_cannot_be_written_anew(
    base: Path, persistence: Persistence, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved_session(persistence)
    sent = [message("x" * 100_000), message("y")]
    persistence.sessions.add_messages("session", sent)
    draft = files.draft

    def full(path: str, chunks: Any) -> str:
        if path.endswith(".jsonl"):
            raise OSError(errno.ENOSPC, "no space left on device")
        return draft(path, chunks)

    with monkeypatch.context() as patch:
        patch.setattr(files, "draft", full)
        assert persistence.sessions.rewrite("session", after=None, messages=sent[1:]) == sent
    (log,) = base.rglob("*.jsonl")
    assert b"xxx" not in log.read_bytes()
    assert persistence.sessions.get_messages("session") == sent[1:]
    persistence.sessions.rewrite("session", after=None, messages=sent)
    persistence.sessions.pop_message("session")
    persistence.sessions.pop_message("session")
    assert log.stat().st_size < 10_000
    assert texts(persistence) == []


def test_a_fork_that_fails_leaves_no_draft(
    base: Path, persistence: Persistence, monkeypatch: pytest.MonkeyPatch
) -> None:
    persistence.sessions.add_message(saved_session(persistence), message())

    def deleted(*arguments: Any) -> None:
        raise RecordNotFoundError("session", "session")

    monkeypatch.setattr(Entries, "_check", deleted)
    with pytest.raises(RecordNotFoundError):
        persistence.sessions.fork("session", session("new"))
    assert list(base.rglob("*.draft")) == []


def test_a_message_that_is_there_already_is_made_durable(
    persistence: Persistence, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = message()
    persistence.sessions.add_message(saved_session(persistence), sent)
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    assert persistence.sessions.add_message("session", sent) == 1
    assert synced
