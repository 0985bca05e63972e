"""`copy` and `compare`."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agentx_persistence import UserMessage, create_persistence
from agentx_persistence.cli.schema import VARIABLE
from tests.ancestor import ancestor_file

Run = Callable[..., Any]


def test_copy_and_compare_two_stores(run: Run, store: str, tmp_path: Path) -> None:
    other = f"file://{tmp_path}/copy"
    copied = run("copy", store, other)
    assert copied.status == 0
    assert "4 messages written" in copied.out
    assert "no difference" in copied.out
    assert "copy: 1 session, 4 messages" in copied.err
    assert run("copy", store, other, "--json").json["complete"] is True
    assert run("compare", store, other).status == 0
    with create_persistence(other) as persistence:
        persistence.sessions.replace_message("talk", UserMessage(id="m4", content="No."))
    differing = run("compare", store, other)
    assert differing.status == 1
    assert "session 'talk', message 4: the texts differ" in differing.out
    found = run("compare", store, other, "--json")
    assert found.status == 1
    assert found.json["equal"] is False
    assert {"position": 4}.items() <= found.json["differences"][-1].items()


def test_copy_dry_writes_nothing(run: Run, store: str, empty: str, tmp_path: Path) -> None:
    dry = run("copy", "--dry-run", store, empty)
    assert dry.status == 0
    assert "4 messages would be written" in dry.out
    assert run("list", empty, "--json").json == []
    again = run("copy", "--dry-run", store, f"file://{tmp_path}/new")
    assert again.out == dry.out
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("statement", ["CREATE TABLE orders (id INTEGER)", "SELECT 1"])
def test_copy_dry_leaves_a_file_without_tables_as_it_is(
    run: Run, store: str, tmp_path: Path, statement: str
) -> None:
    file = tmp_path / "application.db"
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(statement)
    before = file.read_bytes()
    ended = run("copy", "--dry-run", store, f"sqlite:///{file}")
    assert ended.status == 2
    assert "upgrade" in ended.err
    assert file.read_bytes() == before
    assert not list(tmp_path.glob("application.db-*"))


def test_export_and_import(run: Run, store: str, empty: str, tmp_path: Path) -> None:
    file = tmp_path / "store.jsonl.gz"
    assert "4 messages" in run("export", store, file).out
    assert "4 messages written" in run("import", file, empty).out
    assert run("compare", store, empty).status == 0
    assert run("import", file, empty, "--json").json["messages"] == 0
    assert "0 messages written" in run("import", file, empty).out


def test_export_takes_containers_and_a_day(run: Run, store: str, tmp_path: Path) -> None:
    file = tmp_path / "store.md"
    assert "4 messages" in run("export", store, file, "--since", "2020-01-31").out
    assert file.read_text("utf-8").startswith("# Weather")
    assert "0 messages" in run("export", store, file, "--since", "2999-01-31").out
    assert "0 messages" in run("export", store, file, "--container", "nobody").out


def test_export_takes_the_url_from_the_environment(
    run: Run, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, store)
    assert "4 messages" in run("export", tmp_path / "a.jsonl").out


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "No such file"), ("", "cut"), ("nonsense", "line 1")],
)
def test_a_file_that_cannot_be_imported(
    run: Run, empty: str, tmp_path: Path, content: str | None, said: str
) -> None:
    if content is not None:
        (tmp_path / "a.jsonl").write_text(content)
    refused = run("import", tmp_path / "a.jsonl", empty)
    assert refused.status == 2
    assert said in refused.err


@pytest.mark.parametrize("kind", ["agentx-persistence", "agentx", "openai-agents"])
def test_an_import_of_nothing_makes_no_store(run: Run, tmp_path: Path, kind: str) -> None:
    refused = run("import", "--from", kind, tmp_path / "typo", f"sqlite:///{tmp_path}/new.db")
    assert refused.status == 2
    assert f"{tmp_path}/typo: No such file" in refused.err
    assert list(tmp_path.iterdir()) == []


def test_import_of_another_program_tells_what_it_made_and_left(run: Run, empty: str) -> None:
    ended = run("import", "--from", "agentx", ancestor_file("agentx-head.db"), empty)
    assert ended.status == 0
    assert "note: the API keys of 4 providers were not copied" in ended.out
    refused = run("import", "--from", "langchain", ancestor_file("agentx-head.db"), empty)
    assert refused.status == 2
    assert "there is no table message_store" in refused.err


def test_an_import_of_a_folder_makes_no_store(run: Run, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    ended = run("import", tmp_path / "folder", f"sqlite:///{tmp_path}/new.db")
    assert (ended.status, "Is a directory" in ended.err) == (2, True)
    assert not (tmp_path / "new.db").exists()
