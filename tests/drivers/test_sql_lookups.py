"""Lookups of more ids than one statement names, beside other calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agentx_persistence import RecordNotFoundError
from agentx_persistence._sql import statements
from agentx_persistence.storage import SESSIONS, Found, Storage
from tests.backends.backend import Backend
from tests.port.given import entries, entry, log_of, there, token

IDS = [*"abcdefghij"]
KEPT, LATER = IDS[:6], IDS[6:]


@pytest.fixture(params=["sqlite", "mariadb", "mysql", "postgresql"])
def storage(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Storage]:
    """A storage whose statements name up to four ids."""
    monkeypatch.setattr(statements.chunks, "__defaults__", (4,))
    backend: Backend = request.getfixturevalue(f"{request.param}_backend")
    storage = backend.driver().create_storage()
    log_of(storage, KEPT)
    yield storage
    storage.close()


def _create_anew(storage: Storage) -> None:
    storage.delete(SESSIONS, "log")
    log_of(storage, IDS[3:])


CHANGES: dict[str, Callable[[Storage], object]] = {
    "append": lambda storage: storage.append("log", entries(*LATER), 1),
    "cut": lambda storage: storage.rewrite("log", "b", [], 1, token()),
    "cut and append": lambda storage: (
        storage.rewrite("log", "b", [], 1, token()),
        storage.append("log", entries(*LATER), 1),
    ),
    "rewrite": lambda storage: storage.rewrite("log", None, entries(*IDS[::-1]), 1, token()),
    "swap": lambda storage: storage.swap("log", entry("a", "other"), 1, token()),
    "create anew": _create_anew,
}


def _between(storage: Any, change: Callable[[Storage], object], times: int) -> list[int]:
    """Make the change after each of the first statements; return the list of those changes."""
    database = storage._database
    made: list[int] = []
    fetch = database.fetch

    def fetch_and_change(*statement: Any) -> Any:
        rows = fetch(*statement)
        if len(made) < times:
            made.append(1)
            del database.fetch
            change(storage)
            database.fetch = fetch_and_change
        return rows

    database.fetch = fetch_and_change
    return made


def _seen(found: Found) -> tuple[object, ...]:
    return found.head, there(found)


@pytest.mark.parametrize("place", [1, 2])
@pytest.mark.parametrize("change", CHANGES)
def test_a_lookup_in_several_statements_shows_one_moment(
    storage: Any, change: str, place: int
) -> None:
    before = _seen(storage.lookup("log", IDS))
    assert len(before[1]) == len(KEPT)  # type: ignore[arg-type]
    made = _between(storage, lambda s: len(made) == place and CHANGES[change](s), 2)
    during = _seen(storage.lookup("log", IDS))
    del storage._database.fetch
    after = _seen(storage.lookup("log", IDS))
    assert len(made) == 2
    assert after != before
    assert during in (before, after)


def test_a_lookup_ends_beside_constant_cuts(storage: Any) -> None:
    def change(storage: Storage) -> None:
        storage.rewrite("log", "b", entries(f"new {len(made)}", *LATER), 1, token())

    made = _between(storage, change, 1000)
    during = _seen(storage.lookup("log", IDS))
    del storage._database.fetch
    assert 3 <= len(made) < 100
    assert during == _seen(storage.lookup("log", IDS))


def test_a_session_deleted_during_a_lookup_is_missing(storage: Any) -> None:
    made = _between(storage, lambda storage: storage.delete(SESSIONS, "log"), 1)
    with pytest.raises(RecordNotFoundError):
        storage.lookup("log", IDS)
    assert made
