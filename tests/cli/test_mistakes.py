"""What a user does wrong: a sentence, an exit status, no traceback and no secret."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agentx_persistence import SessionRecord, UserMessage, create_persistence
from agentx_persistence.cli import schema
from agentx_persistence.cli.places import secret_free
from tests.test_imports import _HIDE

Run = Callable[..., Any]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["list", "agentx.db"], "write sqlite:///agentx.db"),
        (["list", "oracle://u:tiger@h/d"], "'oracle' is unknown"),
        (["list", "sqlite:///nowhere.db"], "there is nothing at nowhere.db"),
        (["check", "file:///nowhere/at/all"], "there is nothing at /nowhere/at/all"),
        (["list", "file:///nowhere/at/all"], "there is nothing at /nowhere/at/all"),
        (["list", "mysql://u:tiger@127.0.0.1:1/d"], "127.0.0.1"),
        (["check", "mysql://u:tiger@127.0.0.1:1/d"], "127.0.0.1"),
        (["upgrade", "postgresql://u:tiger@127.0.0.1:1/d"], "127.0.0.1"),
        (["check", "postgresql://u:tiger@h:abc/d"], "is no URL; write postgresql://user"),
        (["upgrade", "mysql://u:tiger@h:1:2/d"], "is no URL; write mysql://user"),
        (["import", "--from", "langchain", "mysql://u:tiger@h:x/d", "memory:"], "is no URL"),
        (["check", "sqlite:///a.db?tiger=1"], "write sqlite:///file.db"),
        (["upgrade", "sqlite:///a.db?tiger=1"], "write sqlite:///file.db"),
        (["check", "mysql://u:tiger@h/d?read_timeout=-1"], "read_timeout should be > 0"),
        (["upgrade", "mysql://u:tiger@127.0.0.1:1/d?unknown=1"], "argument 'unknown'"),
        (["doctor", "mysql://u:tiger@h/d?compress=1"], "compress and named_pipe"),
        (["import", "--from", "agentx", "mysql://u:tiger@h/d?port=1", "memory:"], "of type int"),
        (["check", "sqlite:a.db"], "write sqlite:///file.db"),
        (["list", "mysql://u:tiger@h/d", "redis://:tiger@h"], "unexpected extra argument"),
        (["list", "file://h[:tiger@/folder"], "write file:///folder"),
        (["import", "--from", "agentx", "oracle://u:tiger@h/d", "memory:"], "library oracledb"),
        (["stats", "memory:", "-c", "\udcff"], "invalid container"),
        (["export", "memory:", "a.jsonl", "-c", ""], "invalid container"),
        (["list"], "Missing argument"),
        (["show", "memory:", "nobody"], "there is no session with id 'nobody'"),
        (["unknown"], "No such command"),
    ],
)
def test_a_mistake_is_told_in_a_line(
    run: Run, arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(schema.VARIABLE, raising=False)
    ended = run(*arguments)
    assert ended.status == 2
    assert said in ended.err
    assert "Traceback" not in ended.err
    assert "tiger" not in ended.err + ended.out
    assert not list(tmp_path.iterdir())


def test_what_only_reads_makes_no_file(run: Run, store: str, tmp_path: Path) -> None:
    assert run("copy", f"sqlite:///{tmp_path}/typo.db", store).status == 2
    assert run("compare", store, f"sqlite:///{tmp_path}/typo.db").status == 2
    assert not (tmp_path / "typo.db").exists()


@pytest.mark.parametrize("create", ["CREATE TABLE theirs (a)", "SELECT 1"])
def test_what_only_reads_leaves_a_file_of_another_application_as_it_is(
    run: Run, store: str, tmp_path: Path, create: str
) -> None:
    path = tmp_path / "theirs.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(create)
    before, beside = path.read_bytes(), set(tmp_path.iterdir())
    for scheme in ("sqlite", "SQLite", "sqlite+pysqlite"):
        url = f"{scheme}:///{path}"
        for command in ("list", "stats", "doctor", "check"):
            assert run(command, url).status
        for arguments in (("show", url, "id"), ("copy", url, store), ("compare", store, url)):
            ended = run(*arguments)
            assert (ended.status, "tables are missing" in ended.err) == (2, True)
        assert "the tables are missing" in run("check", url).out
    assert path.read_bytes() == before
    assert set(tmp_path.iterdir()) == beside


def test_secrets_are_hidden_wherever_the_url_has_them() -> None:
    said = "no rights for p%40ss, p@ss or key1"
    assert secret_free(said, "x://u:p%40ss@h/d?sslpassword=key1") == "no rights for ***, *** or ***"
    assert secret_free("A Table", "x://u:%41@h/d") == "A Table"  # a shorter one would damage words


@pytest.mark.parametrize("special", [*"/#["])
@pytest.mark.parametrize("scheme", ["redis", "redis+sentinel", "unix"])
@pytest.mark.parametrize("command", ["check", "import"])
def test_a_password_whose_special_characters_are_not_encoded_is_hidden(
    run: Run, command: str, scheme: str, special: str
) -> None:
    url = f"{scheme}://user:ti{special}ger{special}s3cret@127.0.0.1:1/0"
    ended = run("check", url)
    if command == "import":
        ended = run("import", "--from", "agentx", url, "memory:")
    assert ended.status == 2
    assert ended.err.startswith("error: ")
    assert "s3cret" not in ended.err + ended.out
    assert "ger" not in ended.err + ended.out


def test_every_command_has_help_with_an_example(run: Run) -> None:
    listed = run("--help")
    commands = listed.out.partition("Commands:")[2].split("\n")
    names = [line.split()[0] for line in commands if line.strip()]
    assert {"upgrade", "check", "list", "show", "stats", "copy", "compare"} <= set(names)
    for name in names:
        shown = run(name, "--help")
        assert shown.status == 0
        assert f"agentx-persistence {name} " in shown.out.partition("\n")[2]


def test_check_and_upgrade_need_no_extra(tmp_path: Path) -> None:
    program = _HIDE.format(hidden={"typer", "rich"}) + (
        "from agentx_persistence.cli import main\nimport sys; sys.exit(main(sys.argv[1:]))"
    )

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", program, *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )

    url = f"sqlite:///{tmp_path}/a.db"
    assert run("check", url).returncode == 1
    assert run("upgrade", url).returncode == 0
    assert run("check", url).returncode == 0
    refused = run("list", url)
    assert refused.returncode == 2
    assert "agentx-persistence[cli]" in refused.stderr + run("--help").stdout


def test_the_module_is_the_command(store: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "agentx_persistence", "list", store],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    assert "talk" in ended.stdout


def test_an_interrupt_ends_a_command_with_a_status_of_its_own(
    run: Run, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr("agentx_persistence.transfer.compare", interrupted)
    ended = run("compare", store, store)
    assert ended.status == 130
    assert "can be run again" in ended.err
    assert signal.getsignal(signal.SIGINT) is before


def test_a_reader_that_goes_away_is_no_error(store: str) -> None:
    command = f"{sys.executable} -m agentx_persistence show {store} talk --json | head -c 1"
    ended = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "{", "")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
@pytest.mark.parametrize(
    "command", [["list"], ["show", "talk"], ["show", "talk", "--json"], ["stats"]]
)
def test_characters_that_the_encoding_lacks_are_escaped(
    store: str, command: list[str], encoding: str
) -> None:
    with create_persistence(store) as persistence:
        persistence.sessions.add_message("talk", UserMessage(content="é ☃ 🚀"))
        persistence.sessions.save(SessionRecord(session_id="☃", container_id="☃"))
    name, *rest = command
    ended = subprocess.run(
        [sys.executable, "-m", "agentx_persistence", name, store, *rest],
        capture_output=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )
    assert (ended.returncode, b"Traceback" in ended.stderr) == (0, False)
    assert b"\\u2603" in ended.stdout
    if "--json" in command:
        assert json.loads(ended.stdout)["messages"][-1]["content"] == "é ☃ 🚀"


@pytest.mark.parametrize(
    ("redirection", "said"),
    [(">&-", "error: the standard output is closed\n"), (">/dev/full", "error: No space left")],
)
def test_an_output_that_takes_nothing_is_told(store: str, redirection: str, said: str) -> None:
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    for arguments in (f"list {store}", "--version"):
        command = f"{sys.executable} -m agentx_persistence {arguments} {redirection}"
        for env in (buffered, {**buffered, "PYTHONUNBUFFERED": "1"}):
            ended = subprocess.run(
                ["bash", "-c", command], env=env, capture_output=True, text=True, timeout=60
            )
            assert ended.returncode == 2
            assert ended.stderr.startswith(said)
            assert ended.stderr.count("\n") == 1


def test_what_a_driver_warns_of_is_a_line(run: Run, redis_server: Any) -> None:
    ended = run("list", redis_server.url)
    assert ended.status == 0
    assert all(line.startswith("warning: ") for line in ended.err.splitlines())


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    ("redirection", "status", "said"),
    [
        (">&-", 2, "error: the standard output is closed\n"),
        (">/dev/full", 2, "error: No space left on device\n"),
        ("2>/dev/full", 0, ""),
        ("| true", 0, ""),
    ],
)
def test_the_command_without_its_extra_tells_so_too(
    store: str, redirection: str, status: int, said: str, unbuffered: str
) -> None:
    program = _HIDE.format(hidden={"typer", "rich"}) + (
        "from agentx_persistence.cli import main\nimport sys; sys.exit(main(sys.argv[1:]))"
    )
    command = f'"$@" {redirection}; exit "${{PIPESTATUS[0]}}"'
    ended = subprocess.run(
        ["bash", "-c", command, "-", sys.executable, "-c", program, "check", store],
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (ended.returncode, ended.stderr) == (status, said)
