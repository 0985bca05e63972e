"""Files that `export` writes, and `import_file` reads."""

from __future__ import annotations

import gzip
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentx_persistence import (
    InvalidRecordError,
    Persistence,
    RecordConflictError,
    SessionRecord,
    UserMessage,
    create_persistence,
)
from agentx_persistence.repositories import histories
from agentx_persistence.storage import Slice, Window
from agentx_persistence.transfer import Step, compare, export, import_file
from agentx_persistence.transfer import _walking as walking
from tests.contract.records import container, message, saved_session, session, texts
from tests.transfer.given import fill

_SESSION = b'{"session":{"sessionId":"s","createdAt":1,"updatedAt":1}}'
_MESSAGE = b'{"message":{%s,"role":"user","subtype":"user","content":"c"}}'


@pytest.fixture
def memory() -> Iterator[Persistence]:
    with create_persistence() as persistence:
        yield persistence


@pytest.mark.parametrize("name", ["store.jsonl", "store.jsonl.gz"])
def test_an_export_is_read_back_to_the_last_byte_and_time(
    memory: Persistence, tmp_path: Path, name: str
) -> None:
    fill(memory)
    messages = export(memory, tmp_path / name)
    with create_persistence() as other:
        report = import_file(tmp_path / name, other)
        assert (report.messages, report.unchanged, report.skipped) == (messages, 0, [])
        assert compare(memory, other).equal
        again = import_file(tmp_path / name, other)
        assert (again.records, again.messages) == ({}, 0)
        assert compare(memory, other).equal
    assert (tmp_path / name).read_bytes()[:2] == (b"\x1f\x8b" if name.endswith("gz") else b'{"')
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_lines_are_wire_forms(memory: Persistence, tmp_path: Path) -> None:
    saved = session(created_at=1, updated_at=2)
    memory.sessions.add_messages("session", [sent := message()], create=saved)
    export(memory, tmp_path / "a.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text("utf-8").splitlines()]
    assert lines[0] == {"format": "agentx-persistence", "version": 1}
    assert lines[1]["session"] == json.loads(saved.to_json())
    assert lines[1]["updatedAt"] == memory.sessions.get("session").updated_at
    assert lines[2]["message"] == json.loads(sent.to_json())
    assert lines[3] == {"lines": 3}


def test_only_some_containers_and_times_are_exported(memory: Persistence, tmp_path: Path) -> None:
    for name, at in (("old", 10), ("new", 20)):
        memory.containers.save(container(name, created_at=1, updated_at=at))
        for n in range(2):
            saved = SessionRecord(
                session_id=f"{name}{n}", container_id=name, created_at=1, updated_at=at + n
            )
            memory.sessions.save(saved)
    export(memory, tmp_path / "a.jsonl", containers=["new"], since=21)
    with create_persistence() as other:
        import_file(tmp_path / "a.jsonl", other)
        assert [s.session_id for s in other.sessions.find_all()] == ["new1"]
        assert other.containers.count() == 0


def test_what_was_changed_later_is_not_replaced(memory: Persistence, tmp_path: Path) -> None:
    saved_session(memory)
    memory.containers.save(container("c", updated_at=10))
    export(memory, tmp_path / "a.jsonl")
    memory.containers.save(container("c", updated_at=11, config={"new": 1}))
    report = import_file(tmp_path / "a.jsonl", memory)
    assert report.skipped == ["container 'c': the stored container was changed later"]
    assert memory.containers.get("c").config == {"new": 1}


def test_messages_that_were_added_since_stay(memory: Persistence, tmp_path: Path) -> None:
    saved_session(memory)
    memory.sessions.add_message("session", message("1"))
    export(memory, tmp_path / "a.jsonl")
    memory.sessions.add_message("session", message("2"))
    import_file(tmp_path / "a.jsonl", memory)
    assert texts(memory) == ["1", "2"]


def test_another_message_with_the_same_id_is_a_conflict(
    memory: Persistence, tmp_path: Path
) -> None:
    saved_session(memory)
    memory.sessions.add_message("session", UserMessage(id="m", content="1"))
    export(memory, tmp_path / "a.jsonl")
    memory.sessions.replace_message("session", UserMessage(id="m", content="2"))
    with pytest.raises(RecordConflictError, match="content"):
        import_file(tmp_path / "a.jsonl", memory)


@pytest.mark.parametrize("edited", [False, True])
def test_a_message_that_a_file_has_twice_is_read_once(
    persistence: Persistence, memory: Persistence, tmp_path: Path, edited: bool
) -> None:
    saved_session(memory)
    memory.sessions.add_messages("session", [message("one"), message("two")])
    export(memory, tmp_path / "a.jsonl")
    *lines, _ = (tmp_path / "a.jsonl").read_bytes().splitlines(keepends=True)
    lines.append(lines[2].replace(b"one", b"other") if edited else lines[2])
    lines.append(b'{"lines":%d}' % len(lines))
    (tmp_path / "a.jsonl").write_bytes(b"".join(lines))
    if edited:
        with pytest.raises(RecordConflictError) as raised:
            import_file(tmp_path / "a.jsonl", persistence)
        assert raised.value.field == "content"
        assert texts(persistence) == []
    else:
        assert import_file(tmp_path / "a.jsonl", persistence).messages == 2
        assert texts(persistence) == ["one", "two"]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "cut"),
        ([b"PK\x03\x04"], "line 1"),
        ([b'{"a":1}'], "line 1"),
        ([b'{"format":"agentx-persistence","version":2}'], "another version"),
        ([b'{"format":"agentx-persistence","version":1}'], "cut"),
        ([b'{"format":"agentx-persistence","version":1}', b'{"message":{}}'], "line 2|subtype"),
        ([b'{"format":"agentx-persistence","version":1}', b'{"wrong":{}}'], "does not know"),
        ([b'{"format":"agentx-persistence","version":1}', b'{"lines":7}'], "cut"),
        *(
            ([b'{"format":"agentx-persistence","version":1}', *lines], said)
            for lines, said in (
                ([b'{"session":5}'], "line 2: is no whole session"),
                ([b'{"session":{"sessionId":"s"}}'], "line 2: is no whole session: 'createdAt'"),
                ([b'{"session":{"createdAt":1,"updatedAt":1}}'], "line 2: .* 'sessionId'"),
                ([_SESSION, b'{"message":{"id":"m"}}'], "line 3: is no whole message: .*subtype"),
                ([_SESSION, _MESSAGE % b'"id":"m"'], "line 3: is no whole message: 'timestamp'"),
                ([_SESSION, _MESSAGE % b'"timestamp":1'], "line 3: is no whole message: 'id'"),
                ([_SESSION[:-1] + b',"updatedAt":"x"}'], "line 2: has an updatedAt"),
                ([_SESSION + b"\xff"], "line 2: is no JSON"),
            )
        ),
    ],
)
def test_another_file_or_one_that_was_cut_is_refused(
    memory: Persistence, tmp_path: Path, lines: list[bytes], said: str
) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    with pytest.raises(InvalidRecordError, match=said):
        import_file(tmp_path / "a.jsonl", memory)


def test_a_damaged_archive_is_refused(memory: Persistence, tmp_path: Path) -> None:
    fill(memory, 3)
    export(memory, tmp_path / "a.gz")
    (tmp_path / "b.gz").write_bytes((tmp_path / "a.gz").read_bytes()[:-40])
    (tmp_path / "c.gz").write_bytes(b"no archive")
    (tmp_path / "d.gz").write_bytes((tmp_path / "a.gz").read_bytes()[:50] + b"\xff" * 400)
    for name in ("b.gz", "c.gz", "d.gz"):
        with create_persistence() as other, pytest.raises(InvalidRecordError, match="damaged"):
            import_file(tmp_path / name, other)


def test_a_failed_export_leaves_no_file(memory: Persistence, tmp_path: Path) -> None:
    fill(memory, 3)

    def fail(step: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(memory, tmp_path / "a.jsonl", progress=fail)
    assert not list(tmp_path.iterdir())


def test_progress_counts_the_records_of_each_kind(memory: Persistence, tmp_path: Path) -> None:
    fill(memory, 3)
    export(memory, tmp_path / "a.jsonl")
    told = list[Step]()
    with create_persistence() as other:
        import_file(tmp_path / "a.jsonl", other, progress=told.append)
    last = {step.kind: step.done for step in told}
    assert last["sessions"] == memory.sessions.count()
    assert last["images"] == memory.images.count()


@pytest.mark.parametrize("name", ["a.jsonl", "a.md"])
def test_a_session_that_is_deleted_during_an_export_is_left_out(
    memory: Persistence, tmp_path: Path, name: str
) -> None:
    for id in ("first", "second"):
        memory.sessions.add_message(id, message(), create=session(id, created_at=1))
    listed = walking.pages

    def delete(*arguments: Any) -> Iterator[Any]:
        for page in listed(*arguments):
            memory.sessions.delete("first")
            yield page

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(walking, "pages", delete)
        assert export(memory, tmp_path / name) == 1
    written = (tmp_path / name).read_text("utf-8")
    assert "second" in written
    assert "first" not in written


@pytest.mark.parametrize("name", ["a.jsonl", "a.md"])
@pytest.mark.parametrize("change", ["delete", "cut", "edit", "make anew", "edit always"])
def test_a_session_that_is_changed_while_it_is_exported_is_exported_as_it_is_then(
    memory: Persistence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, change: str
) -> None:
    sessions = memory.sessions
    for at, id in enumerate(("first", "second"), 1):
        new = session(id, created_at=at)
        sessions.add_messages(id, [message(f"{id} {m}", id=m) for m in "abcde"], create=new)
    monkeypatch.setattr(walking, "_BATCH_COUNT", 2)
    monkeypatch.setattr(histories, "_CHUNK_COUNT", 2)
    storage, changed = walking.storage_of(memory), 0
    read = storage.read

    def change_after(log: str, window: Window) -> Slice:
        nonlocal changed
        found = read(log, window)
        if log != "first" or window.after or (changed and change != "edit always"):
            return found
        changed += 1
        if change == "cut":
            sessions.truncate_after("first", "d")
        elif change.startswith("edit"):
            sessions.replace_message("first", message("first A", id="a"))
        else:
            sessions.delete("first")
            if change == "make anew":
                sessions.add_message("first", message("first x"), create=session("first"))
        return found

    monkeypatch.setattr(storage, "read", change_after)
    if change == "edit always":
        with pytest.raises(RecordConflictError):
            export(memory, tmp_path / name)
        assert changed == 5
        return
    left = {"delete": "", "cut": "abcd", "edit": "Abcde", "make anew": "x"}[change]
    assert export(memory, tmp_path / name) == len(left) + 5
    written = re.findall(r"(?:first|second) \w\b", (tmp_path / name).read_text("utf-8"))
    assert written == [*(f"first {m}" for m in left), *(f"second {m}" for m in "abcde")]
    if name == "a.jsonl":
        with create_persistence() as other:
            import_file(tmp_path / name, other)
            assert compare(memory, other).equal


def test_an_export_into_a_pipe_or_through_a_link_leaves_these_as_they_are(
    memory: Persistence, tmp_path: Path
) -> None:
    saved_session(memory)
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        export(memory, tmp_path / "pipe")
        assert os.read(reader, 50).startswith(b'{"format"')
    finally:
        os.close(reader)
    assert (tmp_path / "pipe").is_fifo()
    (tmp_path / "link").symlink_to(tmp_path / "file")
    export(memory, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes().startswith(b'{"format"')


def test_markdown_is_for_people(memory: Persistence, tmp_path: Path) -> None:
    memory.sessions.add_message("s", message("Hello"), create=SessionRecord(session_id="s"))
    assert export(memory, tmp_path / "a.md.gz") == 1
    written = gzip.decompress((tmp_path / "a.md.gz").read_bytes()).decode()
    assert written.startswith("# s\n")
    assert "## user (" in written
    assert "\nHello\n" in written
