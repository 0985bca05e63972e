"""`copy` and `compare`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from agentx_persistence import UserMessage, create_persistence

Run = Callable[..., Any]


def test_copy_and_compare_two_stores(run: Run, store: str, tmp_path: Path) -> None:
    other = f"file://{tmp_path}/copy"
    copied = run("copy", store, other)
    assert copied.status == 0
    assert "4 messages written" in copied.out
    assert "no difference" in copied.out
    assert "copy: 1 sessions" in copied.err
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


def test_copy_dry_writes_nothing(run: Run, store: str, empty: str) -> None:
    dry = run("copy", "--dry-run", store, empty)
    assert dry.status == 0
    assert "4 messages would be written" in dry.out
    assert run("list", empty, "--json").json == []
