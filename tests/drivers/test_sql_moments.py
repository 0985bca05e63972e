"""Reads between whose statements another call changes the session: each answer is of one moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agentx_persistence import Persistence, RecordNotFoundError
from tests.backends.backend import Backend
from tests.contract.records import message, saved_session, session

Interposed = Callable[[Callable[[], None]], None]


@pytest.fixture(params=["sqlite", "mariadb", "mysql", "postgresql"])
def persistence(request: pytest.FixtureRequest) -> Iterator[Persistence]:
    backend: Backend = request.getfixturevalue(f"{request.param}_backend")
    with backend.open() as persistence:
        yield persistence


@pytest.fixture
def after_the_next_statement(persistence: Any) -> Interposed:
    """Return a function that has something done once the next statement was answered."""
    database = persistence._storage._database
    fetch = database.fetch

    def interpose(change: Callable[[], None]) -> None:
        def changed(sql: str, parameters: Any) -> Any:
            database.fetch = fetch
            rows = fetch(sql, parameters)
            change()
            return rows

        database.fetch = changed

    return interpose


def _create(persistence: Persistence) -> None:
    persistence.sessions.delete("session")
    saved_session(persistence)
    persistence.sessions.add_messages("session", [message(id=id) for id in "abc"])


WINDOWS: dict[str, tuple[dict[str, Any], str]] = {
    "all": ({}, "abc"),
    "first": ({"first": 2}, "ab"),
    "last": ({"last": 2}, "bc"),
    "after": ({"after": "a"}, "bc"),
    "before": ({"before": "c"}, "ab"),
    "last before": ({"last": 1, "before": "c"}, "b"),
    "between": ({"after": "a", "before": "c"}, "b"),
}


@pytest.mark.parametrize(("window", "there"), WINDOWS.values(), ids=WINDOWS)
def test_a_session_that_was_never_empty_is_not_read_as_empty(
    persistence: Persistence,
    after_the_next_statement: Interposed,
    window: dict[str, Any],
    there: str,
) -> None:
    after_the_next_statement(lambda: _create(persistence))
    found = persistence.sessions.get_messages("session", **window)
    assert [each.id for each in found] == list(there)


@pytest.mark.parametrize("reverse", [False, True], ids=["forwards", "backwards"])
def test_a_stream_after_a_message_that_comes_later_is_refused_or_has_what_follows(
    persistence: Persistence, after_the_next_statement: Interposed, reverse: bool
) -> None:
    saved_session(persistence)
    persistence.sessions.add_message("session", message(id="x"))
    after_the_next_statement(lambda: _create(persistence))
    with pytest.raises(RecordNotFoundError) as raised:
        persistence.sessions.iter_messages("session", after="a", reverse=reverse)
    assert (raised.value.kind, raised.value.id) == ("message", "a")


def test_a_session_that_was_emptied_in_between_is_empty(
    persistence: Persistence, after_the_next_statement: Interposed
) -> None:
    _create(persistence)
    persistence.sessions.clear_messages("session")
    after_the_next_statement(lambda: None)
    assert persistence.sessions.get_messages("session") == []
    after_the_next_statement(lambda: persistence.sessions.delete("session") and None)
    with pytest.raises(RecordNotFoundError) as raised:
        persistence.sessions.get_messages("session")
    assert (raised.value.kind, raised.value.id) == ("session", "session")


def test_a_session_deleted_after_an_append_was_refused_is_created(
    persistence: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _create(persistence)
    reading = persistence._storage._reading
    lookup = reading.lookup

    def delete_and_look_up(*arguments: Any) -> Any:
        persistence.sessions.delete("session")
        return lookup(*arguments)

    monkeypatch.setattr(reading, "lookup", delete_and_look_up)
    given = message(id="a")
    assert persistence.sessions.add_message("session", given, create=session()) == 1
    assert persistence.sessions.get_messages("session") == [given]
    with pytest.raises(RecordNotFoundError):
        persistence.sessions.add_message("session", given)
