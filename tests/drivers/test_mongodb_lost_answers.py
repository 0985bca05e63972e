"""What is left in MongoDB by a call that was repeated because an answer was lost."""

from __future__ import annotations

from typing import Any

import pytest
from pymongo.database import Database
from pymongo.errors import AutoReconnect

from agentx_persistence._mongodb.log import Log
from tests.backends.backend import Backend
from tests.contract.records import message, saved_session, texts


@pytest.mark.parametrize("step", ["publish", "remove_dead"])
@pytest.mark.parametrize("verb", ["truncate_after", "pop_message"])
def test_what_was_cut_off_is_removed_though_an_answer_is_lost(
    mongodb_backend: Backend,
    raw_mongodb: Database[Any],
    monkeypatch: pytest.MonkeyPatch,
    verb: str,
    step: str,
) -> None:
    done, lost = getattr(Log, step), list[str]()

    def lose(*arguments: Any, **options: Any) -> Any:
        if step == "publish" or lost:
            answer = done(*arguments, **options)
        if not lost:
            lost.append(step)
            raise AutoReconnect("the answer is lost")
        return answer

    with mongodb_backend.open() as persistence:
        saved_session(persistence)
        sent = [message("kept", id="kept"), message("secret")]
        persistence.sessions.add_messages("session", sent)
        monkeypatch.setattr(Log, step, lose)
        arguments = ["kept"] if verb == "truncate_after" else []
        assert getattr(persistence.sessions, verb)("session", *arguments) in (1, sent[1])
        assert lost
        assert texts(persistence) == ["kept"]
    assert raw_mongodb["messages"].count_documents({}) == 1
