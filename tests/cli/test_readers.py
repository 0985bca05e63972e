"""What a command does when nobody reads what it prints."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from agentx_persistence import SessionRecord, create_persistence
from agentx_persistence.transfer import compare


def _status(*arguments: str, unread: tuple[str, ...] = ("stdout", "stderr")) -> int:
    """Run the command with pipes that nobody reads; return its exit status."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        streams = {name: writer if name in unread else subprocess.PIPE for name in _BOTH}
        command = [sys.executable, "-m", "agentx_persistence", *arguments]
        ended = subprocess.run(
            command,
            check=False,
            timeout=60,
            text=True,
            stdout=streams["stdout"],
            stderr=streams["stderr"],
        )
    finally:
        os.close(writer)
    assert "Traceback" not in (ended.stderr or "") + (ended.stdout or "")
    return ended.returncode


_BOTH = ("stdout", "stderr")


_INTERRUPTED = """
import signal, sys
from agentx_persistence.cli import app
app.app = lambda **options: signal.raise_signal(signal.SIGINT)
sys.exit(app.run([]))
"""


def _damage(store: str) -> None:
    path = store.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute("UPDATE agentx_messages SET body = '{'").rowcount


@pytest.mark.parametrize("unread", [("stdout",), ("stderr",)])
def test_work_is_done_to_its_end(
    store: str, empty: str, tmp_path: Path, unread: tuple[str, ...]
) -> None:
    for n in range(5):
        with create_persistence(store) as persistence:
            persistence.sessions.save(SessionRecord(session_id=f"old{n}", updated_at=n))
    assert _status("copy", store, empty, unread=unread) == 0
    with create_persistence(store) as one, create_persistence(empty) as other:
        assert compare(one, other).equal
    assert _status("export", store, f"{tmp_path}/all.jsonl", unread=unread) == 0
    imported = f"sqlite:///{tmp_path}/imported.db"
    assert _status("import", f"{tmp_path}/all.jsonl", imported, unread=unread) == 0
    with create_persistence(store) as one, create_persistence(imported) as other:
        assert compare(one, other).equal
    assert _status("prune", store, "--inactive", "1d", unread=unread) == 0
    with create_persistence(store) as persistence:
        assert [session.session_id for session in persistence.sessions.find_all()] == ["talk"]


@pytest.mark.parametrize("unread", [("stdout",), ("stderr",)])
def test_the_exit_status_says_what_was_found(
    store: str, empty: str, tmp_path: Path, unread: tuple[str, ...]
) -> None:
    assert _status("compare", store, empty, unread=unread) == 1
    assert _status("compare", store, f"sqlite:///{tmp_path}/nothing.db", unread=unread) == 2
    (tmp_path / "new.db").touch()
    assert _status("check", f"sqlite:///{tmp_path}/new.db", unread=unread) == 1
    assert _status("doctor", store, unread=unread) == 0
    _damage(store)
    assert _status("doctor", store, unread=unread) == 1


def test_an_export_that_is_not_read_to_its_end_is_not_done(store: str) -> None:
    assert _status("export", store, "/dev/stdout") == 2


def test_what_an_export_writes_to_a_pipe_can_be_imported(
    store: str, empty: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "agentx_persistence"]
    ended = subprocess.run(
        [*command, "export", store, "/dev/stdout"], capture_output=True, check=True, timeout=60
    )
    assert b"/dev/stdout: 4 messages" in ended.stderr
    (tmp_path / "piped.jsonl").write_bytes(ended.stdout)
    assert _status("import", f"{tmp_path}/piped.jsonl", empty) == 0
    with create_persistence(store) as one, create_persistence(empty) as other:
        assert compare(one, other).equal


def test_a_closed_standard_error_ends_no_work(store: str, empty: str) -> None:
    command = f"{sys.executable} -m agentx_persistence copy {store} {empty} 2>&-"
    ended = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 0
    assert "no difference" in ended.stdout


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_errors_that_nothing_takes_end_no_work(store: str, empty: str, unbuffered: str) -> None:
    def status(
        *arguments: str, program: str = "-m agentx_persistence", streams: str = "2>/dev/full"
    ) -> int:
        command = f"{sys.executable} {program} {' '.join(arguments)} {streams}"
        return subprocess.run(
            ["bash", "-c", command],
            stdout=subprocess.DEVNULL,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            timeout=60,
        ).returncode

    assert status("compare", store, empty) == 1
    assert status("copy", store, empty) == 0
    assert status("compare", store, empty) == 0
    assert status("list", "oracle://h/d") == 2
    assert status("stats", store, streams=">/dev/full 2>&1") == 2
    assert status("list", program=f"-c '{_INTERRUPTED}'") == 130
