"""How many round trips each operation is: counts, not times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis.connection import AbstractConnection

from agentx_persistence import ItemRecord, Persistence, create_persistence, transfer
from agentx_persistence._redis import storage
from agentx_persistence._redis.indexing import AtomicIndexing
from agentx_persistence.repositories import conversations
from agentx_persistence.storage import SESSIONS, Addition
from agentx_persistence.transfer import Step
from tests.backends.backend import Backend
from tests.contract.records import container, image, message, session
from tests.port.given import session as stored_session

STORED = [message(id="m1"), message(id="m2"), message(id="m3")]
NAMES = [f"session-{number}" for number in range(20)]


def _item(key: str, **fields: Any) -> ItemRecord:
    return ItemRecord(namespace=("box", "notes"), key=key, value={"a": 1}, **fields)


def _fork(persistence: Persistence) -> object:
    return persistence.sessions.fork("session", session("fork"), through="m2")


# Every operation of a repository, done on what `_prepare` leaves, with its round trips.
OPERATIONS: dict[str, tuple[int, Callable[[Persistence], object]]] = {
    "append": (1, lambda p: p.sessions.add_message("session", message())),
    "append 100": (
        1,
        lambda p: p.sessions.add_messages("session", [message() for _ in range(100)]),
    ),
    "append again": (2, lambda p: p.sessions.add_message("session", STORED[0])),
    "append and create": (
        1,
        lambda p: p.sessions.add_message("other", message(), create=session("other")),
    ),
    "append or create": (
        1,
        lambda p: p.sessions.add_message("session", message(), create=session("session")),
    ),
    "load": (1, lambda p: p.sessions.get_messages("session")),
    "last": (1, lambda p: p.sessions.get_messages("session", last=50)),
    "above": (1, lambda p: p.sessions.get_messages("session", last=50, before="m2")),
    "stream": (2, lambda p: list(p.sessions.iter_messages("session"))),
    "count": (1, lambda p: p.sessions.count_messages("session")),
    "message": (1, lambda p: p.sessions.get_message("session", "m2")),
    "summaries": (1, lambda p: p.sessions.summaries(NAMES)),
    "rewind": (1, lambda p: p.sessions.truncate_after("session", "m1")),
    "clear": (1, lambda p: p.sessions.clear_messages("session")),
    "rewrite": (2, lambda p: p.sessions.rewrite("session", after="m1", messages=[message()])),
    "pop": (2, lambda p: p.sessions.pop_message("session")),
    "replace a message": (1, lambda p: p.sessions.replace_message("session", STORED[1])),
    "fork": (1, _fork),
    "session of an image": (2, lambda p: p.sessions.find_by_image("image")),
    "page": (2, lambda p: p.images.find_page(container_id="box", size=20)),
    "page by both": (2, lambda p: p.images.find_page(container_id="box", name="n", size=20)),
    "page of active ones": (
        2,
        lambda p: p.sessions.find_page(container_id="box", order="active", size=20),
    ),
    "number of images": (1, lambda p: p.images.count(container_id="box")),
    "list": (2, lambda p: p.containers.find_all(limit=20)),
    "get": (1, lambda p: p.images.get("image")),
    "get many": (1, lambda p: p.images.find_many(["image", "other"])),
    "get a session": (1, lambda p: p.sessions.get("session")),
    "exists": (1, lambda p: p.images.exists("image")),
    "save": (1, lambda p: p.images.save(image("image", name="n", created_at=1))),
    "create": (1, lambda p: p.images.create(image("other", name="n", created_at=1))),
    "save at another time": (1, lambda p: p.images.save(image("image", name="n", created_at=2))),
    "rename": (2, lambda p: p.images.save(image("image", name="new", created_at=1))),
    "save a session": (1, lambda p: p.sessions.save(session(image_id="image", created_at=1))),
    "update": (2, lambda p: p.images.update("image", {"roleId": "r"})),
    "change": (2, lambda p: p.images.update_metadata("image", {"key": "value"})),
    "save an item": (1, lambda p: p.items.save(_item("other", created_at=1))),
    "save an item again": (1, lambda p: p.items.save(_item("key", created_at=2))),
    "get an item": (1, lambda p: p.items.get(("box", "notes"), "key")),
    "items": (2, lambda p: p.items.find_page(namespace=("box", "notes"), size=20)),
    "items of a prefix": (2, lambda p: p.items.find_page(namespace_prefix=("box",), size=20)),
    "delete nothing": (2, lambda p: p.images.delete("absent")),
    "delete an item": (2, lambda p: p.items.delete(("box", "notes"), "key")),
    "delete a session": (2, lambda p: p.sessions.delete("session")),
    "delete an old session": (
        2,
        lambda p: p.sessions._storage.delete(SESSIONS, "session", before=2**53),
    ),
    "delete an image": (6, lambda p: p.images.delete("image")),
    "delete a container": (16, lambda p: p.containers.delete("box")),
    "ping": (1, lambda p: p.ping()),
}


def _prepare(persistence: Persistence) -> None:
    persistence.containers.save(container("box"))
    for id in ("other", "fork"):
        persistence.images.delete(id)
        persistence.sessions.delete(id)
    persistence.images.save(image("image", name="n", created_at=1))
    persistence.sessions.save(session(image_id="image", created_at=1))
    persistence.sessions.clear_messages("session")
    persistence.sessions.add_messages("session", STORED)
    persistence.items.save(_item("key", created_at=1))


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    sent: Counter[str] = Counter()
    send = AbstractConnection.send_packed_command

    def counting(connection: AbstractConnection, command: Any, **options: Any) -> None:
        sent["round trips"] += 1
        send(connection, command, **options)

    monkeypatch.setattr(AbstractConnection, "send_packed_command", counting)
    return sent


def test_each_operation_is_so_many_round_trips(
    redis_backend: Backend, sent: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {}
    # What `_prepare` appends changes the second of the session, what follows does not.
    monkeypatch.setattr(conversations, "now", lambda: 3_000_000_000_000)
    with redis_backend.open() as persistence:
        for name, (_, operation) in OPERATIONS.items():
            for _ in range(2):  # the first time, scripts and what is remembered may be new
                _prepare(persistence)
                sent.clear()
                operation(persistence)
                found[name] = sent["round trips"]
    assert found == {name: trips for name, (trips, _) in OPERATIONS.items()}


def test_copying_short_sessions_is_few_round_trips(
    redis_backend: Backend, sent: Counter[str]
) -> None:
    """One creates and fills all of them, and the comparison at the end reads each."""
    with create_persistence() as source, redis_backend.open() as target:
        for name in NAMES:
            source.sessions.add_messages(name, STORED, create=session(name))
        copied = list[int]()

        def note(step: Step) -> None:
            if step.phase == "compare" and not copied:
                copied.append(sent["round trips"])

        source.containers.save(container())  # whose comparison is told before that of the sessions
        sent.clear()
        assert transfer.copy(source, target, progress=note).complete
        assert copied[0] <= 12
        assert sent["round trips"] - copied[0] <= len(NAMES) + 10


def test_only_some_of_many_additions_are_taken_at_once(redis_backend: Backend) -> None:
    taken = list[int]()

    def additions() -> Iterator[Addition]:
        for number in range(2_000):
            taken.append(number)
            yield Addition(f"s{number}", [], 1000, stored_session(f"s{number}"))

    opened = redis_backend.driver().create_storage()
    answers = opened.append_each(additions())
    assert next(answers) == 0
    assert len(taken) < 1_100
    assert sum(answer == 0 for answer in answers) == 1_999
    opened.close()


def _fill(persistence: Persistence, sessions: int) -> None:
    persistence.containers.save(container("large"))
    for number in range(sessions):
        stored = session(f"s{number}", container_id="large", image_id="image")
        persistence.sessions.add_message(stored.session_id, message(), create=stored)


def test_deleting_a_container_names_the_keys_that_sessions_share_once(
    redis_backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent, send = list[int](), AbstractConnection.send_packed_command

    def measuring(connection: AbstractConnection, command: Any, **options: Any) -> None:
        sent.append(sum(map(len, command)))
        send(connection, command, **options)

    monkeypatch.setattr(AbstractConnection, "send_packed_command", measuring)
    with redis_backend.open() as persistence:
        _fill(persistence, 1)
        persistence.containers.delete("large")  # which sends the scripts
        _fill(persistence, 400)
        sent.clear()
        assert persistence.containers.delete("large")
        assert persistence.sessions.count() == 0
    assert sum(sent) < 250 * 400, sum(sent) / 400


def test_the_next_sessions_to_delete_are_prepared_while_the_server_works(
    redis_backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = list[str]()

    def note(kind: type, name: str, step: str) -> None:
        method = getattr(kind, name)

        def noting(*arguments: Any, **options: Any) -> Any:
            steps.append(step)
            return method(*arguments, **options)

        monkeypatch.setattr(kind, name, noting)

    monkeypatch.setattr(storage, "_CHUNK", 10)
    with redis_backend.open() as persistence:
        _fill(persistence, 40)
        note(AbstractConnection, "send_packed_command", "send")
        note(AbstractConnection, "read_response", "receive")
        note(AtomicIndexing, "_deletion", "prepare")
        persistence.containers.delete("large")
        assert persistence.sessions.count() == 0
    prepared = "send prepare receive"
    assert " ".join(steps).count(prepared) == 3


def test_an_append_on_a_cluster_is_one_round_trip_and_one_more_if_the_second_changed(
    redis_cluster_backend: Backend, sent: Counter[str]
) -> None:
    with redis_cluster_backend.open() as persistence:
        _prepare(persistence)
        trips = []
        for _ in range(60):
            sent.clear()
            persistence.sessions.add_message("session", message())
            trips.append(sent["round trips"])
        assert set(trips) <= {1, 2}
        assert trips.count(2) < 10
        persistence.containers.delete("box")
