from __future__ import annotations

import json
import logging
import os
import re
import shutil
import stat
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from agentx_persistence import (
    CorruptRecordError,
    Persistence,
    create_persistence,
)
from agentx_persistence.errors import ConfigurationError
from agentx_persistence.fs import fs_driver
from tests.backends.fs import place
from tests.contract.records import container, image, message, saved_session, session, texts
from tests.drivers.killing import exit_status, in_child


@pytest.fixture
def persistence(base: Path) -> Iterator[Persistence]:
    with create_persistence(fs_driver(base)) as persistence:
        yield persistence


def _files(base: Path) -> list[Path]:
    return sorted(p for p in base.glob("*/??/*") if p.is_file())


def _log(base: Path, session_id: str = "session") -> Path:
    return place(base, "sessions", session_id, 1)[0]


def _record(base: Path, kind: str, id: str) -> Path:
    return place(base, kind, id)[0]


# What is where


@pytest.mark.parametrize(
    "id",
    [
        *("..", ".", "../../escaped", "/etc/passwd", "a/b", "a\\b", "C:\\x", "CON", "nul.json"),
        *("~", "-rf", "$(touch x)", "*", "a:b", "a?b", "%2e%2e", ".json"),
        *("a" * 255, "é" * 255, "🙂" * 255),
    ],
)
def test_a_hostile_id_never_leaves_the_folder(
    base: Path, persistence: Persistence, id: str
) -> None:
    persistence.containers.save(container(id))
    persistence.images.save(image(id, container_id=id, name=id))
    persistence.sessions.save(session(id, image_id=id, container_id=id))
    persistence.sessions.add_message(id, message(id=id))
    assert [path.name for path in base.parent.iterdir()] == ["store"]
    for path in base.rglob("*"):
        assert re.fullmatch(r"[a-z0-9]+(\.(jsonl?|stamp|sqlite3(-wal|-shm)?))?", path.name)
        assert len(path.name) < 100
    assert persistence.images.find_all(container_id=id, name=id) == [persistence.images.get(id)]


def test_files_whose_names_differ_only_in_case_are_never_made(
    base: Path, persistence: Persistence
) -> None:
    for id in ("a", "A", "é", "É", "ß", "SS", "K", "K"):
        persistence.images.save(image(id, container_id=id, name=id))
        saved_session(persistence, id)
    paths = [str(path) for path in base.rglob("*")]
    assert len({path.casefold() for path in paths}) == len(paths)


def test_everything_is_private_to_the_user(base: Path) -> None:
    before = os.umask(0)
    try:
        with create_persistence(fs_driver(base)) as persistence:
            persistence.images.save(image())
            persistence.sessions.add_messages(saved_session(persistence), [message(), message()])
            persistence.sessions.clear_messages("session")
    finally:
        os.umask(before)
    for path in (base, *base.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_deleting_leaves_not_one_file(base: Path, persistence: Persistence) -> None:
    persistence.containers.save(container())
    for number in range(3):
        persistence.images.save(image(f"i{number}"))
        persistence.sessions.save(session(f"s{number}", image_id=f"i{number}"))
        persistence.sessions.add_messages(f"s{number}", [message(), message()])
    persistence.containers.delete("box")
    assert _files(base) == []


def test_the_locks_do_not_grow_with_what_is_stored(base: Path, persistence: Persistence) -> None:
    for number in range(600):
        persistence.images.exists(f"i{number}")
        persistence.images.delete(f"i{number}")
    assert len(list((base / "locks").iterdir())) <= 257


def test_an_empty_session_is_two_small_files(base: Path, persistence: Persistence) -> None:
    saved_session(persistence)
    assert sorted(path.suffix for path in _files(base)) == [".json", ".jsonl"]
    assert sum(path.stat().st_size for path in _files(base)) < 1_000


def test_a_record_and_a_history_are_readable_json(base: Path, persistence: Persistence) -> None:
    saved = saved_session(persistence)
    persistence.sessions.add_messages(saved, [message("one", id="m1"), message("two", id="m2")])
    record = json.loads(_record(base, "sessions", saved).read_bytes())
    assert record["key"] == record["record"]["sessionId"] == saved
    lines = [json.loads(line) for line in _log(base).read_bytes().splitlines()]
    assert lines[0]["session"] == saved
    assert [line["message"]["content"] for line in lines[1:]] == ["one", "two"]


@pytest.mark.parametrize("base", ["", "a\0b", b"store"], ids=ascii)
def test_a_base_that_is_no_path_is_refused_and_said_so(base: Any) -> None:
    with pytest.raises(ConfigurationError, match="path of a folder, such as"):
        fs_driver(base)


def test_the_repr_names_the_folder(base: Path) -> None:
    assert repr(fs_driver(base)) == f"fs_driver({str(base)!r})"


# What cannot be read


def test_a_torn_last_line_is_cut_off_and_said_so(
    base: Path, persistence: Persistence, caplog: pytest.LogCaptureFixture
) -> None:
    persistence.sessions.add_messages(saved_session(persistence), [message("1"), message("2")])
    whole = _log(base).read_bytes()
    for torn in (b'{"id":"m3","mess', b"\x00" * 5000, whole.splitlines()[-1], b"{" * 9000):
        _log(base).write_bytes(whole + torn)
        assert texts(persistence) == ["1", "2"]
        assert persistence.sessions.count_messages("session") == 2
        with caplog.at_level(logging.WARNING, "agentx_persistence"):
            last = message("3")
            assert persistence.sessions.add_message("session", last) == 3
        assert f"cut off {len(torn)} bytes" in caplog.text
        assert str(_log(base)) in caplog.text
        caplog.clear()
        assert texts(persistence) == ["1", "2", "3"]
        with create_persistence(fs_driver(base)) as another:
            assert texts(another) == ["1", "2", "3"]


def test_a_batch_without_its_last_line_was_never_acknowledged(
    base: Path, persistence: Persistence
) -> None:
    first, batch = message("1"), [message("2"), message("3"), message("4")]
    persistence.sessions.add_message(saved_session(persistence), first)
    persistence.sessions.add_messages("session", batch)
    lines = _log(base).read_bytes().splitlines(keepends=True)
    _log(base).write_bytes(b"".join(lines[:-1]))
    with create_persistence(fs_driver(base)) as another:
        assert texts(another) == ["1"]
        assert texts(another, last=2) == ["1"]
        assert another.sessions.add_messages("session", batch) == [2, 3, 4]
        assert texts(another) == ["1", "2", "3", "4"]


@pytest.mark.parametrize("opened", ["before", "after"])
@pytest.mark.parametrize("raw", [b"\xff\x00garbage", b"", b"{}", b'{"a":"\n"}', b"\n\n"], ids=ascii)
def test_a_damaged_line_is_named_and_never_written_over(
    base: Path, persistence: Persistence, raw: bytes, opened: str
) -> None:
    messages = [message(str(number), id=f"m{number}") for number in range(1, 6)]
    persistence.sessions.add_messages(saved_session(persistence), messages)
    lines = _log(base).read_bytes().split(b"\n")
    assert json.loads(lines[3])["id"] == "m3"
    lines[3] = raw
    _log(base).write_bytes(b"\n".join(lines))
    with create_persistence(fs_driver(base)) as another:
        # The line that is told is the first, or one of those that the damage has made of it.
        sessions = (another if opened == "after" else persistence).sessions
        damaged = _log(base).read_bytes()
        for call in (
            lambda: sessions.get_messages("session"),
            lambda: list(sessions.iter_messages("session")),
            lambda: sessions.get_messages("session", last=3),
            # Which id the line had is not known: it could be the one of this message.
            lambda: sessions.add_message("session", message()),
            lambda: sessions.truncate_after("session", "m9"),
        ):
            with pytest.raises(CorruptRecordError) as raised:
                call()
            assert raised.value.kind == "message"
            assert re.fullmatch(re.escape(f"{_log(base)}, byte ") + r"\d+", raised.value.where)
        assert sessions.get_messages("session", last=2) == messages[-2:]
        assert _log(base).read_bytes() == damaged
        assert sessions.clear_messages("session") == 5
        assert sessions.add_message("session", messages[0]) == 1


@pytest.mark.parametrize(
    "raw", [b"", b"\n", b"garbage\n", b'{"session":"session","generation":"a"}\n']
)
def test_a_log_that_is_no_log_is_never_an_empty_history(
    base: Path, persistence: Persistence, raw: bytes
) -> None:
    persistence.sessions.add_message(saved_session(persistence), message())
    _log(base).write_bytes(raw)
    _expect_damage(persistence)
    _log(base).unlink()
    _expect_damage(persistence)


def _expect_damage(persistence: Persistence) -> None:
    sessions = persistence.sessions
    for call in (
        lambda: sessions.get_messages("session"),
        lambda: sessions.count_messages("session"),
        lambda: sessions.add_message("session", message()),
        lambda: sessions.get("session"),
        lambda: sessions.find_all(),
    ):
        with pytest.raises(CorruptRecordError, match=r"\.jsonl") as raised:
            call()
        assert (raised.value.kind, raised.value.id) == ("session", "session")


@pytest.mark.parametrize("raw", [b"", b"\x00\xff" * 50, b"{}", b"null", b'{"id":"other"}'])
def test_random_bytes_for_a_record_are_named_and_can_be_replaced_or_deleted(
    base: Path, persistence: Persistence, raw: bytes
) -> None:
    for id in ("whole", "damaged"):
        persistence.images.save(image(id))
    path = _record(base, "images", "damaged")
    path.write_bytes(raw)
    for call in (
        lambda: persistence.images.get("damaged"),
        lambda: persistence.images.find_all(name="plan"),
        lambda: persistence.images.update_metadata("damaged", {"a": 1}),
    ):
        with pytest.raises(CorruptRecordError) as raised:
            call()
        assert raised.value.args == ("image", "damaged", str(path))
    assert path.read_bytes() == raw
    persistence.images.save(image("damaged", name="new"))
    assert len(persistence.images.find_all(name="plan")) == 1
    path.write_bytes(raw)
    assert persistence.containers.delete("box") is False
    for name in ("plan", "new", None):
        assert persistence.images.find_all(name=name) == []
        assert persistence.images.find_all(name=name, container_id="box") == []
    assert _files(base) == []


def test_the_file_of_another_record_is_not_taken_for_this_one(
    base: Path, persistence: Persistence
) -> None:
    for id in ("one", "two"):
        persistence.images.save(image(id))
        saved_session(persistence, id)
    shutil.copy(_record(base, "images", "one"), _record(base, "images", "two"))
    shutil.copy(_log(base, "one"), _log(base, "two"))
    with pytest.raises(CorruptRecordError, match="'two'"):
        persistence.images.get("two")
    with pytest.raises(CorruptRecordError, match="'two'"):
        persistence.sessions.get_messages("two")


def test_other_processes_find_what_the_member_of_an_enum_names(
    base: Path, persistence: Persistence
) -> None:
    class Color(str, Enum):  # noqa: UP042  # a StrEnum is formatted as what it is
        RED = "red"

    def save() -> None:
        with create_persistence(fs_driver(base)) as persistence:
            persistence.images.save(image(Color.RED))

    assert exit_status(in_child(save)) == 0
    assert persistence.images.exists("red")
