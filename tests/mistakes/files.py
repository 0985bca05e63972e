"""Files and folders that cannot be used, packages that are missing, and the command."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from agentx_persistence import (
    BackendUnavailableError,
    ConfigurationError,
    MissingDependencyError,
    Persistence,
    PersistenceClosedError,
    RecordTooLargeError,
    create_persistence,
)
from agentx_persistence.cli import main
from tests.backends.backend import Backend
from tests.contract.records import message, saved_session
from tests.mistakes.mistake import Mistake, Place, with_fixtures


class CommandFailed(Exception):
    """The command ended with status 2; its text is what it has printed for the user."""


@contextmanager
def _beside_a_text(request: pytest.FixtureRequest) -> Iterator[tuple[Path]]:
    """Gives a file that is no database, which stays as it is."""
    folder: Path = request.getfixturevalue("tmp_path")
    file = folder / "notes.txt"
    file.write_text("no database, but long enough to be taken for one\n" * 99)
    before = file.read_bytes()
    yield (file,)
    assert file.read_bytes() == before
    assert list(folder.iterdir()) == [file]


def _without(package: str, *modules: str) -> Place:
    """Where the package is not installed."""

    @contextmanager
    def place(request: pytest.FixtureRequest) -> Iterator[tuple[Any, ...]]:
        patch: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
        patch.chdir(request.getfixturevalue("tmp_path"))
        for module in list(sys.modules):
            if module in modules or module.partition(".")[0] == package:
                patch.delitem(sys.modules, module)
        patch.setitem(sys.modules, package, None)
        yield (request.getfixturevalue("capsys"),)

    return place


def _missing(url: str, extra: str, package: str) -> dict[str, Mistake]:
    """Return what opening without the package says, and the commands."""
    place = _without(package, f"agentx_persistence.{extra}")
    words = f"pip install 'agentx-persistence[{extra}]'"
    opening = Mistake(place, lambda _: create_persistence(url), MissingDependencyError, words)
    commands = {
        f"{command}: no {package}": Mistake(
            place, partial(_command, command, url), CommandFailed, words
        )
        for command in ("check", "upgrade")
    }
    return {f"{extra}: no {package}": opening, **commands}


def _command(name: str, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    status = main([name, url])
    printed = capsys.readouterr().err
    assert "Traceback" not in printed
    if status == 2:
        raise CommandFailed(printed)


@contextmanager
def _while_another_writes(request: pytest.FixtureRequest) -> Iterator[tuple[Any, ...]]:
    """Gives an empty file that another process migrates."""
    path = request.getfixturevalue("tmp_path") / "busy.db"
    patch: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
    connect: Callable[..., sqlite3.Connection] = sqlite3.connect
    patch.setattr(sqlite3, "connect", lambda *a, **o: connect(*a, **{**o, "timeout": 0.1}))
    with closing(connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield f"sqlite:///{path}", request.getfixturevalue("capsys")


def _read_only(scheme: str, *parts: str) -> Place:
    """Gives the URL of a store in a folder whose parts another user must not write."""

    @contextmanager
    def place(request: pytest.FixtureRequest) -> Iterator[tuple[str]]:
        # Not below `tmp_path`, into which no other user may look.
        above = Path(tempfile.mkdtemp())
        folder = above / "folder"
        folder.mkdir()
        url = f"file://{folder}/store" if scheme == "file" else f"sqlite:///{folder}/a.db"
        try:
            with create_persistence(url) as persistence:
                saved_session(persistence)
            for path in (above, *above.rglob("*")):
                path.chmod(0o777)
            for path in (found for part in parts for found in above.glob(part)):
                path.chmod(0o555)
            before = _files(folder)
            with _as_nobody():
                yield (url,)
            assert _files(folder) == before
            with create_persistence(url) as persistence:
                assert persistence.sessions.count_messages("session") == 0
        finally:
            shutil.rmtree(above)

    return place


def _files(folder: Path) -> set[Path]:
    """Return all but those that SQLite makes before it finds that it cannot write."""
    return {path for path in folder.rglob("*") if not path.name.endswith(("-wal", "-shm"))}


@contextmanager
def _as_nobody() -> Iterator[None]:
    """Rights bind any user but root."""
    if os.geteuid() != 0:
        yield
        return
    os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


def _append(url: str) -> None:
    with create_persistence(url) as persistence:
        persistence.sessions.add_message("session", message())


def _file_in_place_of(name: str) -> Mistake:
    @contextmanager
    def place(request: pytest.FixtureRequest) -> Iterator[tuple[str]]:
        folder = request.getfixturevalue("tmp_path") / "store"
        create_persistence(f"file://{folder}").close()
        shutil.rmtree(folder / name)
        (folder / name).write_text("mine")
        yield (f"file://{folder}",)
        assert (folder / name).read_text() == "mine"

    return Mistake(place, create_persistence, ConfigurationError, f"a file, not a folder … {name}")


@contextmanager
def _without_its_locks(request: pytest.FixtureRequest) -> Iterator[tuple[Persistence]]:
    folder = request.getfixturevalue("tmp_path") / "store"
    with create_persistence(f"file://{folder}") as persistence:
        saved_session(persistence)
        shutil.rmtree(folder / "locks")
        yield (persistence,)
        (folder / "locks").mkdir()
        assert persistence.sessions.add_message("session", message()) == 1


@contextmanager
def _with_an_index(request: pytest.FixtureRequest) -> Iterator[tuple[str]]:
    folder = request.getfixturevalue("tmp_path") / "store"
    create_persistence(f"file://{folder}").close()
    before = (folder / "index.sqlite3").read_bytes()
    yield (f"sqlite:///{folder}/index.sqlite3",)
    assert (folder / "index.sqlite3").read_bytes() == before


@contextmanager
def _with_small_rows(request: pytest.FixtureRequest) -> Iterator[tuple[Backend]]:
    """As if SQLite's own limit were lower, as a gigabyte takes long to make."""
    limit = "agentx_persistence._sql.flavour.Flavour.row_limit"
    request.getfixturevalue("monkeypatch").setattr(limit, 100_000)
    yield (request.getfixturevalue("sqlite_backend"),)


def _large(backend: Backend) -> object:
    with backend.open() as persistence:
        saved_session(persistence)
        try:
            persistence.sessions.add_message("session", message("é" * 49_500))
            return persistence.sessions.add_message("session", message("é" * 50_001, id="m"))
        finally:
            assert persistence.sessions.count_messages("session") == 1


def _closed(backend: Backend) -> object:
    persistence = backend.open()
    persistence.close()
    return persistence.sessions.find("s")


def after_closing(name: str) -> Mistake:
    return Mistake(with_fixtures(f"{name}_backend"), _closed, PersistenceClosedError, "closed")


FILES: dict[str, Mistake] = {
    "sqlite: a text as database": Mistake(
        _beside_a_text,
        lambda file: create_persistence(f"sqlite:///{file}"),
        ConfigurationError,
        "give the path of a SQLite database, or of a file that does not exist yet",
    ),
    "sqlite: a path below a file": Mistake(
        _beside_a_text,
        lambda file: create_persistence(f"sqlite:///{file}/below.db"),
        ConfigurationError,
        "File exists",
    ),
    "sqlite: a folder as database": Mistake(
        _beside_a_text,
        lambda file: create_persistence(f"sqlite:///{file.parent}"),
        ConfigurationError,
        "check that the path is that of a file",
    ),
    "fs: a file as folder": Mistake(
        _beside_a_text,
        lambda file: create_persistence(f"file://{file}"),
        ConfigurationError,
        "not a folder",
    ),
    **{
        f"{scheme}: {name}": Mistake(_read_only(scheme, *parts), _append, ConfigurationError, words)
        for scheme, name, parts, words in (
            ("sqlite", "a file that is read-only", ["*/a.db"], "must be writable"),
            ("sqlite", "a folder that is read-only", ["folder"], "must be writable"),
            ("sqlite", "all of it read-only", ["**/*"], "must be writable"),
            ("file", "a folder that is read-only", ["folder", "*/store"], "copy the store to a"),
            ("file", "all of it read-only", ["**/*"], "copy the store to a folder that can"),
            ("file", "histories that are read-only", ["**/*.jsonl"], "must be able to write there"),
            ("file", "locks that are read-only", ["**/locks/*"], "must be able to write there"),
        )
    },
    **{
        f"fs: a file in place of {name}": _file_in_place_of(name)
        for name in ("locks", "sessions", "items")
    },
    "fs: a folder that vanished": Mistake(
        _without_its_locks,
        lambda persistence: persistence.sessions.add_message("session", message()),
        BackendUnavailableError,
        "/locks/ … check that the store's folder is mounted and complete",
    ),
    "sqlite: the index of a filesystem store": Mistake(
        _with_an_index, create_persistence, ConfigurationError, "open file:///"
    ),
    "sqlite: a row of more than a gigabyte": Mistake(
        _with_small_rows, _large, RecordTooLargeError, "the message 'm' takes … at most 100000"
    ),
    "upgrade: a file that another process migrates": Mistake(
        _while_another_writes, partial(_command, "upgrade"), CommandFailed, "database is locked"
    ),
    **_missing("sqlite:///a.db", "sqlite", "sqlalchemy"),
    **_missing("postgresql://h/d", "postgresql", "psycopg"),
    **_missing("mysql://h/d", "mysql", "pymysql"),
    **_missing("redis://h", "redis", "redis"),
    **_missing("mongodb://h/d", "mongodb", "pymongo"),
}
