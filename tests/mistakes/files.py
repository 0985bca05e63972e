"""Files and folders that cannot be used, packages that are missing, and the command."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from agentx_persistence import (
    ConfigurationError,
    MissingDependencyError,
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
    patch.setattr(sqlite3.dbapi2, "connect", lambda *a, **o: connect(*a, **{**o, "timeout": 0.1}))
    with closing(connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield f"sqlite:///{path}", request.getfixturevalue("capsys")


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
