"""What a process leaves behind that is killed at any of its calls to the system."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from agentx_persistence import Persistence, create_persistence
from agentx_persistence.fs import fs_driver
from agentx_persistence.records import now
from agentx_persistence.storage import SESSIONS
from tests.contract.records import container, image, message, saved_session, session
from tests.drivers.killing import exit_status, in_child

# The calls that change something on the disk. A process can die before each, and in mid-write.
_CALLS = ("open", "mkdir", "write", "fsync", "ftruncate", "replace", "unlink")


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # What a killed process has written is there, on the disk or not yet: the tests need not wait.
    monkeypatch.setattr(os, "fsync", lambda _: None)
    return tmp_path / "store"


def _killed_at(call: int, work: Callable[[], object]) -> bool:
    """Run `work` in a child that dies just before this call; tell whether it got that far."""

    def child() -> None:
        done, write = count(1), os.write

        def dying(original: Callable[..., Any]) -> Callable[..., Any]:
            def call_or_die(*given: Any, **named: Any) -> Any:
                if next(done) == call:
                    if original is write:
                        write(given[0], given[1][: len(given[1]) // 2])
                    os.kill(os.getpid(), signal.SIGKILL)
                return original(*given, **named)

            return call_or_die

        for name in _CALLS:
            setattr(os, name, dying(getattr(os, name)))
        work()

    status = exit_status(in_child(child))
    assert status in (0, -signal.SIGKILL)
    return status != 0


def _at_every_call(
    base: Path, prepare: Callable[[Persistence], object], work: Callable[[Persistence], object]
) -> Iterator[Persistence]:
    """Kill `work` at each of its calls in turn; give the store as it is then, open and reopened."""
    with create_persistence(fs_driver(base)) as persistence:
        prepare(persistence)
    for call in count(1):
        folder = base.with_name(f"killed at {call}")
        shutil.copytree(base, folder)
        with create_persistence(fs_driver(folder)) as persistence:
            killed = _killed_at(call, partial(work, persistence))
            yield persistence
        with create_persistence(fs_driver(folder)) as persistence:
            yield persistence
            _check_that_nothing_remains(persistence, folder)
        shutil.rmtree(folder)
        if not killed:
            assert call > 2
            return


def _files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.glob("*/??/*"))


def _check_that_nothing_remains(persistence: Persistence, folder: Path) -> None:
    persistence.images.find_all()
    persistence.sessions.find_all()
    for box in ("box", "other", *(c.container_id for c in persistence.containers.find_all())):
        persistence.containers.delete(box)
        persistence.sessions.find_all(container_id=box)
        for name in ("old", "new", "plan"):
            persistence.images.find_all(name=name)
            persistence.images.find_all(name=name, container_id=box)
    for id in ("image", "session"):
        persistence.images.delete(id)
        persistence.sessions.delete(id)
    assert _files(folder) == []


def _places(persistence: Persistence) -> dict[str, list[str]]:
    """Return by which listing the images are found."""
    images = persistence.images
    listings: dict[str, dict[str, str]] = {"all": {}}
    for box in ("box", "other"):
        listings[box] = {"container_id": box}
        for name in ("old", "new"):
            listings[name] = {"name": name}
            listings[f"{box} {name}"] = {"container_id": box, "name": name}
    found = {
        listing: [i.image_id for i in images.find_all(**filters)]
        for listing, filters in listings.items()
    }
    return {listing: ids for listing, ids in found.items() if ids}


def _found_as(*listings: str) -> dict[str, list[str]]:
    return {listing: ["image"] for listing in sorted(listings)}


def test_a_record_is_there_in_every_listing_or_in_none(base: Path) -> None:
    everywhere = _found_as("all", "box", "new", "box new")
    seen = []
    for persistence in _at_every_call(
        base, lambda _: None, lambda p: p.images.save(image("image", name="new"))
    ):
        seen.append(persistence.images.exists("image"))
        assert sorted(_places(persistence).items()) == sorted(
            everywhere.items() if seen[-1] else ()
        )
    assert {True, False} == set(seen)


def test_a_record_that_moves_is_found_only_where_it_is(base: Path) -> None:
    old = image("image", name="old", created_at=1)
    new = image("image", name="new", container_id="other", created_at=2)
    seen = []
    for persistence in _at_every_call(
        base, lambda p: p.images.save(old), lambda p: p.images.save(new)
    ):
        saved = persistence.images.get("image")
        assert saved in (old, new)
        seen.append(str(saved.name))
        box, name = saved.container_id, str(saved.name)
        expected = _found_as("all", box, name, f"{box} {name}")
        assert sorted(_places(persistence).items()) == sorted(expected.items())
    assert {"old", "new"} == set(seen)


def _index_entries(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "index.sqlite3")) as connection:
        return int(connection.execute("SELECT count(*) FROM images").fetchone()[0])


def test_what_a_save_was_interrupted_in_goes_with_the_record_unread(base: Path) -> None:
    old = image("image", name="old", created_at=1)
    new = image("image", name="new", container_id="other", created_at=2)
    for persistence in _at_every_call(
        base, lambda p: p.images.save(old), lambda p: p.images.save(new)
    ):
        persistence.images.delete("image")
        (folder,) = base.parent.glob("killed at *")
        assert _index_entries(folder) == 0


def test_a_save_that_is_repeated_leaves_no_index_entry_of_the_interrupted_one(base: Path) -> None:
    old = image("image", name="old", created_at=1)
    new = image("image", name="new", created_at=2)
    for persistence in _at_every_call(
        base, lambda p: p.images.save(old), lambda p: p.images.save(new)
    ):
        (folder,) = base.parent.glob("killed at *")
        for saved in (new, old):
            persistence.images.save(saved)
            assert _index_entries(folder) == 1
            found = _found_as("all", "box", str(saved.name), f"box {saved.name}")
            assert sorted(_places(persistence).items()) == sorted(found.items())


def test_a_deletion_that_was_interrupted_finishes_when_it_is_repeated(base: Path) -> None:
    def prepare(persistence: Persistence) -> None:
        persistence.containers.save(container("box"))
        persistence.images.save(image("image"))
        persistence.sessions.add_messages(saved_session(persistence), [message(), message()])

    for persistence in _at_every_call(base, prepare, lambda p: p.containers.delete("box")):
        if persistence.sessions.exists("session"):
            assert persistence.sessions.count_messages("session") == 2
        persistence.containers.delete("box")
        (folder,) = base.parent.glob("killed at *")
        assert _files(folder) == []


@pytest.mark.parametrize("before", [None, 2**53])
def test_a_session_that_is_saved_after_an_interrupted_deletion_is_empty(
    base: Path, before: int | None
) -> None:
    def prepare(persistence: Persistence) -> None:
        persistence.sessions.add_messages(saved_session(persistence), [message(), message()])

    def delete(persistence: Persistence) -> None:
        assert persistence.sessions._storage.delete(SESSIONS, "session", before=before)

    for persistence in _at_every_call(base, prepare, delete):
        if not persistence.sessions.exists("session"):
            saved_session(persistence)
            assert persistence.sessions.get_messages("session") == []


def test_a_deletion_that_was_interrupted_is_finished_whatever_is_too_new(base: Path) -> None:
    def prepare(persistence: Persistence) -> None:
        persistence.sessions.add_messages(saved_session(persistence), [message(), message()])

    for persistence in _at_every_call(base, prepare, lambda p: p.sessions.delete("session")):
        there = persistence.sessions.exists("session")
        assert persistence.sessions._storage.delete(SESSIONS, "session", before=0) is False
        (folder,) = base.parent.glob("killed at *")
        assert persistence.sessions.exists("session") is there
        assert bool(_files(folder)) is there


def test_a_batch_is_there_in_whole_or_not_at_all(base: Path) -> None:
    batch = [message(str(number) * 3000, id=f"m{number}") for number in range(1, 4)]
    first = message("first", id="m0")
    seen = set()

    def prepare(persistence: Persistence) -> None:
        persistence.sessions.add_message(saved_session(persistence), first)

    for persistence in _at_every_call(
        base, prepare, lambda p: p.sessions.add_messages("session", batch)
    ):
        history = persistence.sessions.get_messages("session")
        seen.add(len(history))
        assert history in ([first], [first, *batch])
        assert persistence.sessions.add_messages("session", batch) == [2, 3, 4]
        assert persistence.sessions.get_messages("session") == [first, *batch]
    assert seen == {1, 4}


def test_a_history_is_cut_in_one_step_and_keeps_the_time_of_its_last_message(base: Path) -> None:
    messages = [message(id=f"m{number}") for number in range(3)]
    last = 0
    seen = set()

    def prepare(persistence: Persistence) -> None:
        nonlocal last
        persistence.sessions.save(session(created_at=1, updated_at=1))
        persistence.sessions.add_message("session", messages[0])
        time.sleep(0.01)
        last = now()
        persistence.sessions.add_messages("session", messages)

    for persistence in _at_every_call(
        base, prepare, lambda p: p.sessions.truncate_after("session", "m0")
    ):
        history = persistence.sessions.get_messages("session")
        seen.add(len(history))
        assert history in (messages, messages[:1])
        assert persistence.sessions.get("session").updated_at >= last
        assert persistence.sessions.truncate_after("session", "m0") == len(history) - 1
        assert persistence.sessions.add_messages("session", messages) == [1, 2, 3]
    assert seen == {1, 3}
