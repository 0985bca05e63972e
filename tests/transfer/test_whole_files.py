"""A file is whole, or it is refused; and an export replaces no store."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentx_persistence import (
    ConfigurationError,
    InvalidRecordError,
    Persistence,
    create_persistence,
)
from agentx_persistence.transfer import compare, export, import_file
from tests.contract.records import message, session
from tests.transfer.given import fill


@pytest.fixture
def memory() -> Iterator[Persistence]:
    with create_persistence() as persistence:
        yield persistence


@pytest.fixture
def exported(memory: Persistence, tmp_path: Path) -> bytes:
    """An export whose session has a later time than its record."""
    memory.sessions.add_message("s", message(), create=session("s", updated_at=1))
    fill(memory, 3)
    export(memory, tmp_path / "whole.jsonl")
    return (tmp_path / "whole.jsonl").read_bytes()


@pytest.mark.parametrize("more", ["garbage\n", "{}\n", "twice"])
def test_what_comes_after_the_end_is_refused(exported: bytes, tmp_path: Path, more: str) -> None:
    data = exported * 2 if more == "twice" else exported + more.encode()
    (tmp_path / "a.jsonl").write_bytes(data)
    (tmp_path / "a.gz").write_bytes(gzip.compress(data))
    for name in ("a.jsonl", "a.gz"):
        with create_persistence() as other, pytest.raises(InvalidRecordError, match="line "):
            import_file(tmp_path / name, other)


@pytest.mark.parametrize("kept", [-1, -4, -8])
def test_an_archive_without_its_last_bytes_is_refused(
    exported: bytes, tmp_path: Path, kept: int
) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(exported)[:kept])
    with create_persistence() as other, pytest.raises(InvalidRecordError, match="damaged"):
        import_file(tmp_path / "a.gz", other)


def test_an_archive_with_another_checksum_is_refused(exported: bytes, tmp_path: Path) -> None:
    archive = gzip.compress(exported)
    (tmp_path / "a.gz").write_bytes(archive[:-8] + bytes(4) + archive[-4:])
    with create_persistence() as other, pytest.raises(InvalidRecordError, match="damaged"):
        import_file(tmp_path / "a.gz", other)


def test_white_space_makes_no_difference(
    exported: bytes, memory: Persistence, tmp_path: Path
) -> None:
    lines = [json.dumps(json.loads(line)) for line in exported.splitlines()]
    (tmp_path / "spaced.jsonl").write_text("\r\n".join([*lines, "", ""]))
    (tmp_path / "crlf.jsonl").write_bytes(exported.replace(b"\n", b"\r\n") + b"\r\n")
    with create_persistence() as other:
        import_file(tmp_path / "spaced.jsonl", other)
        assert other.sessions.get("s") == memory.sessions.get("s")
        assert other.sessions.get_messages("s") == memory.sessions.get_messages("s")
    with create_persistence() as other:
        import_file(tmp_path / "crlf.jsonl", other)
        assert compare(memory, other).equal


@pytest.mark.parametrize("line", ['["x"]', '"x"', "[]"])
def test_a_line_that_is_no_object_is_refused(exported: bytes, tmp_path: Path, line: str) -> None:
    first, _, rest = exported.partition(b"\n")
    (tmp_path / "a.jsonl").write_bytes(b"\n".join([first, line.encode(), rest]))
    with create_persistence() as other, pytest.raises(InvalidRecordError, match="line 2"):
        import_file(tmp_path / "a.jsonl", other)


@pytest.mark.parametrize("time", [10**19, -(10**19), 2**53, 1.5, True, None, "x"])
def test_a_time_that_is_none_is_refused(exported: bytes, tmp_path: Path, time: object) -> None:
    head, _, _ = exported.partition(b"\n")
    record = session("s").to_json()
    line = '{"session":%s,"updatedAt":%s}' % (record, json.dumps(time))  # noqa: UP031
    (tmp_path / "a.jsonl").write_bytes(b"\n".join([head, line.encode(), b'{"lines":2}']))
    with create_persistence() as other, pytest.raises(InvalidRecordError, match="line 2"):
        import_file(tmp_path / "a.jsonl", other)


def test_an_export_replaces_no_database(tmp_path: Path) -> None:
    path = tmp_path / "agentx.db"
    with create_persistence(f"sqlite:///{path}") as persistence:
        fill(persistence, 3)
        with pytest.raises(ConfigurationError, match="is a database"):
            export(persistence, path)
    assert path.read_bytes().startswith(b"SQLite format 3")


def test_two_exports_into_one_file_leave_a_whole_one(memory: Persistence, tmp_path: Path) -> None:
    fill(memory, 3)
    left = [1]

    def again(step: object) -> None:
        if left:
            left.pop()
            export(memory, tmp_path / "a.jsonl")
            with create_persistence() as other:
                import_file(tmp_path / "a.jsonl", other)

    export(memory, tmp_path / "a.jsonl", progress=again)
    with create_persistence() as other:
        import_file(tmp_path / "a.jsonl", other)
        assert compare(memory, other).equal
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


def test_an_export_is_on_the_disk_before_it_has_its_name(
    memory: Persistence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = list[str]()
    for name in ("fsync", "replace"):
        real = getattr(os, name)

        def noting(*arguments: Any, name: str = name, real: Any = real) -> None:
            done.append(name)
            real(*arguments)

        monkeypatch.setattr(os, name, noting)
    export(memory, tmp_path / "a.jsonl")
    assert done == ["fsync", "replace"]
