"""The index is found again from the files, however it was lost."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from agentx_persistence import (
    BackendError,
    BackendUnavailableError,
    CorruptRecordError,
    Persistence,
    create_persistence,
)
from agentx_persistence._fs.index import Index
from agentx_persistence.fs import fs_driver
from agentx_persistence.storage import Kind, Query
from tests.contract.records import container, image, message, saved_session, session, texts

MESSAGES = [message(str(number), id=f"m{number}") for number in range(700)]


@pytest.fixture
def persistence(base: Path) -> Iterator[Persistence]:
    """A store with a history that is longer than what the index lacks of it."""
    with create_persistence(fs_driver(base)) as persistence:
        _fill(persistence)
        yield persistence


def _fill(persistence: Persistence) -> None:
    persistence.containers.save(container())
    for number in range(5):
        persistence.images.save(image(f"i{number}", name=f"n{number % 2}", created_at=number))
    saved_session(persistence)
    persistence.sessions.add_messages("session", MESSAGES)
    persistence.sessions.truncate_after("session", "m649")
    persistence.sessions.replace_message("session", message("new", id="m3"))
    persistence.sessions.save(session("quiet", updated_at=1))


def _check(persistence: Persistence) -> None:
    images, sessions = persistence.images, persistence.sessions
    assert [i.image_id for i in images.find_all()] == ["i4", "i3", "i2", "i1", "i0"]
    assert [i.image_id for i in images.find_all(name="n1", container_id="box")] == ["i3", "i1"]
    assert images.count(name="n0") == 3
    active = sessions.find_all(container_id="box", order="active")
    assert [s.session_id for s in active] == ["session", "quiet"]
    contents = texts(persistence)
    assert contents == [str(n) if n != 3 else "new" for n in range(650)]
    assert sessions.get_message("session", "m649") == MESSAGES[649]
    assert sessions.find_message("session", "m650") is None
    assert sessions.add_message("session", MESSAGES[5]) == 6
    assert sessions.add_message("session", MESSAGES[650]) == 651
    assert sessions.truncate_after("session", "m649") == 1


def _removed(base: Path) -> None:
    for path in base.glob("index.sqlite3*"):
        path.unlink()


def _damaged(base: Path) -> None:
    (base / "index.sqlite3").write_bytes(b"no database" * 1000)


def _emptied(base: Path) -> None:
    _removed(base)
    (base / "index.sqlite3").touch()


def _torn(base: Path) -> None:
    with open(base / "index.sqlite3", "r+b") as file:
        file.write(b"\0" * 100)


def _without_stamp(base: Path) -> None:
    (base / "index.stamp").unlink()


def _changed(statement: str) -> Callable[[Path], None]:
    def change(base: Path) -> None:
        with closing(sqlite3.connect(base / "index.sqlite3")) as connection:
            connection.execute(statement)

    return change


@pytest.mark.parametrize(
    "lost",
    [
        *(_removed, _damaged, _emptied, _torn, _without_stamp),
        *map(
            _changed,
            (
                "ALTER TABLE sessions RENAME COLUMN time TO moment",
                "ALTER TABLE heads RENAME COLUMN generation TO number_of_changes",
                "ALTER TABLE lines DROP COLUMN size",
                "DROP TABLE heads",
                "DROP TABLE meta",
                "DROP INDEX line_ids",
            ),
        ),
    ],
)
def test_an_index_that_is_lost_is_rebuilt_and_said_so(
    base: Path, lost: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    with create_persistence(fs_driver(base)) as persistence:
        _fill(persistence)
    lost(base)
    with caplog.at_level(logging.WARNING, "agentx_persistence"):
        with create_persistence(fs_driver(base)) as reopened:
            _check(reopened)
        assert "was rebuilt from 8 records" in caplog.text
        caplog.clear()
        with create_persistence(fs_driver(base)) as reopened:
            _check(reopened)
    assert caplog.text == ""


def test_an_index_that_is_removed_from_a_running_process_is_rebuilt(
    base: Path, persistence: Persistence
) -> None:
    _removed(base)
    _check(persistence)


@pytest.mark.parametrize("whole", [True, False], ids=["all", "without the index"])
def test_a_copy_of_the_folder_can_be_opened(
    base: Path, persistence: Persistence, whole: bool, caplog: pytest.LogCaptureFixture
) -> None:
    ignored = None if whole else shutil.ignore_patterns("index.*")
    shutil.copytree(base, base.with_name("copy"), ignore=ignored)
    with (
        caplog.at_level(logging.WARNING, "agentx_persistence"),
        create_persistence(fs_driver(base.with_name("copy"))) as copy,
    ):
        _check(copy)
    assert "was rebuilt" in caplog.text
    _check(persistence)


def test_a_copy_that_was_made_while_others_wrote_can_be_opened(
    base: Path, persistence: Persistence
) -> None:
    ended = threading.Event()
    sent: list[str] = []

    def write() -> None:
        while not ended.is_set():
            new = message()
            persistence.sessions.add_message("session", new)
            sent.append(new.id)
            number = len(sent)
            persistence.images.save(image("moving", name=f"n{number % 7}", created_at=number))
            if number % 9 == 0:
                persistence.sessions.truncate_after("session", "m649")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(5):
            with suppress(shutil.Error):  # drafts vanish
                shutil.copytree(base, base.with_name(f"copy {number}"))
    finally:
        ended.set()
        writer.join()
    assert sent
    for number in range(5):
        with create_persistence(fs_driver(base.with_name(f"copy {number}"))) as copy:
            stored = [m.id for m in copy.sessions.iter_messages("session")]
            assert stored[:650] == [m.id for m in MESSAGES[:650]]
            assert len(set(stored)) == len(stored)
            assert copy.sessions.add_message("session", message()) == len(stored) + 1
            for saved in [copy.images.find("moving")]:
                found = [i for name in range(7) for i in copy.images.find_all(name=f"n{name}")]
                assert [i for i in found if i.image_id == "moving"] == ([saved] if saved else [])


@pytest.mark.parametrize("removed", [True, False], ids=["anew", "over it"])
def test_a_backup_that_is_restored_under_a_running_process_is_noticed(
    base: Path, persistence: Persistence, removed: bool
) -> None:
    backup = base.with_name("backup")
    shutil.copytree(base, backup)
    persistence.images.save(image("later"))
    persistence.images.save(image("i1", name="n0", created_at=9))
    persistence.sessions.add_messages("session", [message() for _ in range(300)])
    persistence.sessions.delete("quiet")
    if removed:
        shutil.rmtree(base)
    for path in (base / "images").glob("*/*"):
        path.unlink()
    shutil.copytree(backup, base, dirs_exist_ok=True)
    _check(persistence)
    with create_persistence(fs_driver(base)) as reopened:
        _check(reopened)


def test_a_record_file_that_is_away_for_a_while_takes_no_history_with_it(
    base: Path, persistence: Persistence
) -> None:
    records = [*base.glob("sessions/*/*.json")]
    for record in records:
        record.rename(f"{record}.away")
    assert persistence.sessions.find_all() == []
    assert persistence.sessions.find("session") is None
    for record in records:
        Path(f"{record}.away").rename(record)
    assert texts(persistence) == [str(n) if n != 3 else "new" for n in range(650)]
    persistence.sessions.save(session("session"))
    persistence.sessions.save(session("quiet", updated_at=1))
    _check(persistence)


def test_a_session_that_cannot_be_saved_where_another_was_taken_away_changes_neither(
    base: Path, persistence: Persistence, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is put back is refused: its log is gone, and no empty history is given instead."""
    stored = persistence.sessions.get("quiet")
    (record,) = (path for path in base.glob("sessions/*/*.json") if b"quiet" in path.read_bytes())
    record.rename(f"{record}.away")
    replace = os.replace

    def fail(source: str, target: str) -> None:
        if target == str(record):
            raise OSError("no space")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(BackendError, match="no space"):
        persistence.sessions.save(stored)
    monkeypatch.undo()
    assert not [*base.glob("sessions/*/*.draft")]
    Path(f"{record}.away").rename(record)
    with pytest.raises(CorruptRecordError):
        persistence.sessions.get_messages("quiet")


@pytest.mark.parametrize(
    "error",
    [
        OSError("too many open files"),
        BackendUnavailableError("fs", "too many open files"),
        sqlite3.OperationalError("too many open files"),
    ],
    ids=["system", "lock", "SQLite"],
)
def test_an_announcement_that_fails_leaves_no_draft(
    base: Path, persistence: Persistence, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(Index, "announce", fail)
    with pytest.raises(BackendError, match="too many open files"):
        persistence.sessions.add_message("new", message(), create=session("new"))
    assert not [*base.glob("sessions/*/*.draft")]


def test_a_rebuilt_index_counts_no_record_that_is_being_deleted(
    base: Path, persistence: Persistence
) -> None:
    records = [*base.glob("images/*/*.json")]
    records[0].rename(f"{records[0]}.hidden")
    shutil.copy(records[1], f"{records[1]}.hidden")  # one that was saved again
    (base / "index.sqlite3").unlink()
    assert persistence.images.count() == len(persistence.images.find_all()) == 4
    assert persistence.containers.delete("box")
    assert not [*base.glob("images/*/*")]


def test_an_index_that_is_older_than_its_log_is_followed_by_the_rest_of_it(
    base: Path, persistence: Persistence
) -> None:
    with closing(sqlite3.connect(base / "index.sqlite3")) as connection:
        connection.execute("DELETE FROM heads")
        connection.commit()
    with create_persistence(fs_driver(base)) as another:
        _check(another)


def test_the_index_of_another_history_is_not_believed(
    base: Path, persistence: Persistence, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(sqlite3.connect(base / "index.sqlite3")) as connection:
        connection.execute("UPDATE lines SET offset = offset + 1")
        connection.commit()
    with create_persistence(fs_driver(base)) as another:
        assert texts(another, last=2) == ["648", "649"]
        assert "was wrong" in caplog.text
        _check(another)


def test_a_record_that_moves_while_it_is_listed_is_in_its_new_place(
    persistence: Persistence, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = cast(Any, persistence._storage)
    find, load = storage._index.find, storage._load

    def find_both_rows(kind: Kind, query: Query) -> Any:
        key, time, *rest = load(kind, "i0")[1]
        storage._index.announce(kind, key, (key, time - 9, *rest))
        return find(kind, query)

    def load_then_save(kind: Kind, key: str) -> Any:
        loaded = load(kind, key)
        if key == "i0":
            monkeypatch.undo()
            save = partial(persistence.images.save, image("i0", name="n0", created_at=9))
            another = threading.Thread(target=save)
            another.start()
            another.join()
        return loaded

    monkeypatch.setattr(storage._index, "find", find_both_rows)
    monkeypatch.setattr(storage, "_load", load_then_save)
    listed = persistence.images.find_all(order="oldest")
    assert [each.image_id for each in listed] == ["i1", "i2", "i3", "i4", "i0"]


def test_what_others_keep_in_the_folder_is_left_alone(base: Path, persistence: Persistence) -> None:
    folders = [base, *(path for path in base.rglob("*") if path.is_dir())]
    foreign = []
    for folder in folders:
        for name in (".DS_Store", "a.json", "copy of it.json~", "x.jsonl", "notes.json.hidden"):
            (folder / name).write_text("mine")
            foreign.append(folder / name)
        (folder / "@eaDir").mkdir()
        (folder / "@eaDir" / "thumb.json").write_text("mine")
        foreign.append(folder / "@eaDir" / "thumb.json")
    for path in list((base / "images").glob("??/*.json")):
        if len(path.name) > 30:
            shutil.copy(path, path.with_suffix(".json.bak"))
            shutil.copy(path, path.with_name(f"copy {path.name}"))
            foreign += [path.with_suffix(".json.bak"), path.with_name(f"copy {path.name}")]
    _check(persistence)
    _removed(base)
    with create_persistence(fs_driver(base)) as reopened:
        _check(reopened)
        reopened.containers.delete("box")
        assert reopened.images.find_all() == []
    assert all(path.exists() for path in foreign)
    assert os.path.exists(base)
