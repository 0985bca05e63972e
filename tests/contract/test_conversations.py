"""What the verbs of a conversation have in common."""

from __future__ import annotations

from typing import Any

import pytest

from agentx_persistence import (
    InvalidRecordError,
    Persistence,
    RecordNotFoundError,
)
from tests.contract.records import image, message, session, stored


def test_an_unknown_session_is_refused_by_every_verb(persistence: Persistence) -> None:
    sessions = persistence.sessions
    calls = [
        lambda: sessions.add_message("unknown", message(), expected=0),
        lambda: sessions.rewrite("unknown", after=None),
        lambda: sessions.rewrite("unknown", after="x", messages=[message()], expected=3),
        lambda: sessions.pop_message("unknown"),
        lambda: sessions.replace_message("unknown", message()),
        lambda: sessions.fork("unknown", session("new")),
        lambda: sessions.fork("unknown", session("new"), through="x"),
        lambda: sessions.get_message("unknown", "x"),
        lambda: sessions.find_message("unknown", "x"),
        lambda: sessions.iter_messages("unknown", after="x", reverse=True),
    ]
    for call in calls:
        with pytest.raises(RecordNotFoundError) as raised:
            call()
        assert (raised.value.kind, raised.value.id) == ("session", "unknown")
    assert sessions.find_all() == []
    assert sessions.summaries(["unknown"]) == {}


def test_an_unknown_message_is_refused_by_every_verb(
    persistence: Persistence, ten: list[str]
) -> None:
    sessions = persistence.sessions
    foreign = message()
    sessions.add_message("other", foreign, create=session("other"))
    before = stored(persistence)
    for id in ("unknown", foreign.id):
        for call in (
            lambda: sessions.rewrite("session", after=id, messages=[message()]),  # noqa: B023
            lambda: sessions.replace_message("session", message(id=id)),  # noqa: B023
            lambda: sessions.fork("session", session("new"), through=id),  # noqa: B023
            lambda: sessions.get_message("session", id),  # noqa: B023
            lambda: sessions.iter_messages("session", after=id),  # noqa: B023
            lambda: sessions.iter_messages("session", after=id, reverse=True),  # noqa: B023
        ):
            with pytest.raises(RecordNotFoundError) as raised:
                call()
            assert (raised.value.kind, raised.value.id) == ("message", id)
        assert sessions.find_message("session", id) is None
    assert stored(persistence) == before
    assert not sessions.exists("new")


@pytest.mark.parametrize("id", ["", " a", "a\n", "x" * 256, "a\ud800", None, 5, b"a"], ids=ascii)
def test_what_is_no_id_is_refused_by_every_verb(
    persistence: Persistence, ten: list[str], id: Any
) -> None:
    sessions = persistence.sessions
    calls = [
        lambda: sessions.rewrite(id, after=None),
        lambda: sessions.pop_message(id),
        lambda: sessions.replace_message(id, message()),
        lambda: sessions.fork(id, session("new")),
        lambda: sessions.get_message(id, ten[0]),
        lambda: sessions.get_message("session", id),
        lambda: sessions.find_message("session", id),
        lambda: sessions.summaries([id]),
        lambda: sessions.update(id, {}),
        lambda: sessions.add_message(id, message(), create=session("session")),
    ]
    if id is not None:
        calls += [
            lambda: sessions.rewrite("session", after=id),
            lambda: sessions.fork("session", session("new"), through=id),
            lambda: sessions.iter_messages("session", after=id),
        ]
    for call in calls:
        with pytest.raises(InvalidRecordError):
            call()
    assert sessions.count_messages("session") == 10
    assert not sessions.exists("new")


def test_what_is_no_message_is_refused_by_every_verb(
    persistence: Persistence, ten: list[str]
) -> None:
    sessions = persistence.sessions
    before = stored(persistence)
    wrong: list[Any] = [{"content": "x"}, "x", None, image(), 5]
    for value in wrong:
        for call in (
            lambda: sessions.replace_message("session", value),  # noqa: B023
            lambda: sessions.rewrite("session", after=None, messages=[message(), value]),  # noqa: B023
            lambda: sessions.rewrite("session", after=None, messages=value),  # noqa: B023
        ):
            with pytest.raises(InvalidRecordError):
                call()
    for call in (
        lambda: sessions.rewrite("session", after=None, messages=message()),  # type: ignore[arg-type]
        lambda: sessions.add_messages("session", message()),  # type: ignore[arg-type]
    ):
        with pytest.raises(InvalidRecordError):
            call()
    assert stored(persistence) == before


def test_changes_never_lower_updated_at(persistence: Persistence, ten: list[str]) -> None:
    sessions = persistence.sessions
    later = 2**53 - 1
    sessions.save(session(updated_at=later))
    sessions.add_message("session", message(), expected=10)
    sessions.pop_message("session")
    sessions.rewrite("session", after=ten[0])
    sessions.replace_message("session", message("new", id=ten[0]))
    assert sessions.get("session").updated_at == later
    assert sessions.find_all(container_id="box", order="active", since=later)
