"""Ids and names that mean something to a query, a script, a pattern or a path."""

from __future__ import annotations

from typing import Any

from agentx_persistence import Persistence
from tests.contract.calls import all_calls
from tests.contract.hostile import INJECTIONS
from tests.contract.records import container, image, message, session


def _everything(persistence: Persistence) -> list[Any]:
    records = [
        *persistence.containers.find_all(),
        *persistence.images.find_all(),
        *persistence.sessions.find_all(),
        *persistence.sessions.get_messages("innocent"),
        *persistence.sessions.get_messages("%"),
    ]
    return [record.to_json() for record in records]


def test_a_hostile_id_in_any_call_touches_nothing_else(persistence: Persistence) -> None:
    # The second one is what a pattern would take for all of them.
    for id in ("innocent", "%"):
        persistence.containers.save(container(id))
        persistence.images.save(image(id, container_id=id, name=id))
        persistence.sessions.save(session(id, image_id=id, container_id=id))
        persistence.sessions.add_messages(id, [message(id=id), message("second")])
    before = _everything(persistence)
    for id in INJECTIONS:
        for call in all_calls(persistence, id):
            call()
        assert _everything(persistence) == before
