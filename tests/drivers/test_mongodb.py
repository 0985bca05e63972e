"""What a MongoDB server is asked, and what lies in it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest
from bson import DBRef, Int64, ObjectId
from bson.codec_options import CodecOptions
from pymongo.database import Database

from agentx_persistence import (
    CorruptRecordError,
    ImageMetadata,
    Persistence,
    RecordTooLargeError,
    create_persistence,
)
from agentx_persistence.mongodb import mongodb_driver
from agentx_persistence.storage import SESSIONS
from tests.backends.backend import Backend
from tests.contract.records import (
    container,
    image,
    item,
    message,
    saved_session,
    session,
    texts,
)
from tests.servers.mongodb import Commands

MEGABYTE = 2**20


@pytest.fixture
def commands() -> Commands:
    return Commands()


@pytest.fixture
def store(mongodb_backend: Backend, commands: Commands) -> Iterator[Persistence]:
    driver = mongodb_driver(
        *mongodb_backend.arguments, **mongodb_backend.options, event_listeners=[commands]
    )
    with create_persistence(driver) as persistence:
        yield persistence


def test_the_commands_of_each_operation(store: Persistence, commands: Commands) -> None:
    store.containers.save(container())
    for number in range(60):
        store.images.save(image(f"i{number}"))
    saved_session(store)
    sessions, messages = store.sessions, [message(str(number)) for number in range(1000)]
    sessions.add_messages("session", messages)
    new = session("new")
    for operation, expected in (
        (lambda: store.images.get("i1"), "find"),
        (lambda: store.images.find_many(["i1", "i2", "absent"]), "find"),
        (lambda: store.images.save(image("i1", name="new")), "update"),
        (lambda: store.images.create(image("created")), "insert"),
        (lambda: store.images.update_metadata("i1", {"a": 1}), "find update"),
        (lambda: store.images.find_page(container_id="box", size=20), "find"),
        (lambda: store.images.find_all(container_id="box", name="plan"), "find"),
        (lambda: store.images.count(container_id="box"), "aggregate"),
        (lambda: sessions.find_by_image("image"), "find"),
        (lambda: sessions.find_page(container_id="box", order="active", size=5), "find"),
        (lambda: sessions.add_message("session", message()), "find insert update"),
        (lambda: sessions.add_message("session", message(), expected=1001), "find insert update"),
        (lambda: sessions.add_message("new", message(), create=new), "find insert insert"),
        (lambda: sessions.add_message("new", message(), create=new), "find insert update"),
        (
            lambda: sessions.add_messages("session", [message() for _ in range(100)]),
            "find insert update",
        ),
        (lambda: sessions.get_messages("session"), "aggregate"),
        (lambda: sessions.get_messages("session", last=50), "aggregate"),
        (lambda: sessions.get_messages("session", first=1000), "aggregate"),
        # Where the message is, and the page.
        (
            lambda: sessions.get_messages("session", last=50, before=messages[900].id),
            "aggregate aggregate",
        ),
        (lambda: sessions.get_message("session", messages[900].id), "aggregate"),
        (lambda: sessions.count_messages("session"), "find"),
        (lambda: sessions.summaries(["session", "new", "absent"]), "aggregate"),
        # A look, the staged message, the head; the old message goes, the staged one is moved in,
        # and the head says so.
        (
            lambda: sessions.replace_message("session", message("new", id=messages[5].id)),
            "aggregate insert update delete update update",
        ),
        (lambda: sessions.pop_message("session"), "aggregate aggregate update delete"),
        (
            lambda: sessions.truncate_after("session", messages[500].id),
            "aggregate update delete",
        ),
        # A look, whether the key is free, the copy, whether what was copied is still there.
        (
            lambda: sessions.fork("session", session("copy")),
            "aggregate find aggregate find insert",
        ),
        (lambda: store.items.save(item(("box", "a"), "key")), "update"),
        (lambda: store.items.get(("box", "a"), "key"), "find"),
        (lambda: store.items.find_page(namespace=("box", "a")), "find"),
        (lambda: store.items.find_page(namespace_prefix=("box",)), "find"),
        (lambda: sessions.clear_messages("session"), "aggregate update delete"),
        # It is too new, or it is not there.
        (lambda: sessions._storage.delete(SESSIONS, "session", before=1), "findAndModify find"),
        # Hiding it, its messages, itself, and what interrupted calls left.
        (
            lambda: sessions._storage.delete(SESSIONS, "copy", before=2**53),
            "findAndModify delete delete delete",
        ),
        (lambda: sessions.delete("session"), "findAndModify delete delete delete"),
        (lambda: store.items.delete(("box", "a"), "key"), "delete"),
    ):
        commands.sent.clear()
        operation()
        assert " ".join(commands.names) == expected


def test_a_message_costs_the_same_commands_however_long_the_history_is(
    store: Persistence, commands: Commands
) -> None:
    saved_session(store)
    for present in (0, 10, 1000):
        missing = present - store.sessions.count_messages("session")
        store.sessions.add_messages("session", [message() for _ in range(missing)])
        commands.sent.clear()
        store.sessions.add_message("session", message())
        assert commands.names == ["find", "insert", "update"]


class Query(NamedTuple):
    collection: str
    where: dict[str, Any]
    sort: dict[str, int]
    hint: Any = None


def _queries(commands: Commands) -> Iterator[Query]:
    """Give everything that was looked for, to be read, changed or deleted."""
    for name, command in commands.sent:
        if name == "find":
            sort, hint = dict(command.get("sort", {})), command.get("hint")
            yield Query(command["find"], dict(command["filter"]), sort, hint)
        elif name == "aggregate":
            match, *stages = command["pipeline"]
            yield Query(command["aggregate"], match["$match"], {}, command.get("hint"))
            for stage in stages:
                if inner := stage.get("$unionWith"):
                    sort = dict(inner["pipeline"][1].get("$sort", {}))
                    yield Query(inner["coll"], inner["pipeline"][0]["$match"], sort)
        elif name == "update":
            for one in command["updates"]:
                yield Query(command["update"], dict(one["q"]), {}, one.get("hint"))
        elif name == "delete":
            for one in command["deletes"]:
                yield Query(command["delete"], dict(one["q"]), {}, one.get("hint"))
        elif name == "findAndModify":
            yield Query(command["findAndModify"], dict(command["query"]), {})
        else:
            assert name in {"insert", "commitTransaction"}


def _stages(plan: dict[str, Any]) -> list[dict[str, Any]]:
    inner = [plan["inputStage"]] if "inputStage" in plan else plan.get("inputStages", [])
    return [plan, *(stage for each in inner for stage in _stages(each))]


def _leave_behind(raw: Database[Any], position: int, **fields: Any) -> None:
    """Insert a message as an append that died a year ago would have."""
    head = raw.sessions.find_one({"_id": "session"}, {"_id": 0, "log": 1, "term": 1})
    assert head
    ago = datetime.now(UTC) - timedelta(days=365 + position)
    row = {"session_id": "session", "position": Int64(position), "message_id": str(ObjectId())}
    raw.messages.insert_one({"_id": ObjectId.from_datetime(ago), **row, **head, **fields})


def test_a_session_that_is_too_new_to_be_deleted_keeps_its_old_messages(
    store: Persistence, raw_mongodb: Database[Any]
) -> None:
    saved_session(store)
    _leave_behind(raw_mongodb, 1, text=message("old").to_json())
    raw_mongodb.sessions.update_one({"_id": "session"}, {"$set": {"count": Int64(1)}})
    assert texts(store) == ["old"]
    assert store.sessions._storage.delete(SESSIONS, "session", before=1) is False
    assert texts(store) == ["old"]


def test_a_session_that_does_not_say_when_it_changed_is_damaged(
    store: Persistence, raw_mongodb: Database[Any]
) -> None:
    saved_session(store)
    raw_mongodb.sessions.update_one({"_id": "session"}, {"$unset": {"updated_at": ""}})
    with pytest.raises(CorruptRecordError):
        store.sessions._storage.delete(SESSIONS, "session", before=2**53)
    assert raw_mongodb.sessions.count_documents({}) == 1


def test_each_query_is_a_range_of_one_index_in_the_order_that_is_asked_for(
    store: Persistence, commands: Commands, raw_mongodb: Database[Any]
) -> None:
    store.containers.save(container())
    for number in range(30):
        store.images.save(image(f"i{number}", container_id=f"box {number % 3}"))
    saved_session(store)
    first, *_, last = (message() for _ in range(20))
    store.sessions.add_messages("session", [first, message(), last])
    commands.sent.clear()

    page = store.images.find_page(size=5)
    for filters in (
        {},
        {"container_id": "box 1"},
        {"name": "plan"},
        {"container_id": "box 1", "name": "plan"},
    ):
        store.images.find_all(**filters)
        store.images.find_page(**filters, size=5, cursor=page.next_cursor)
    store.containers.find_all(order="oldest", since=5, until=10**15)
    store.sessions.find_all(container_id="box", order="active", since=5)
    for number in range(3):
        store.items.save(item(("box", "a"), str(number)))
    items = store.items.find_page(namespace_prefix=("box",), size=2)
    store.items.find_page(namespace_prefix=("box",), size=2, cursor=items.next_cursor)
    store.items.find_page(namespace=("box", "a"), order="newest")
    store.items.count(namespace=("box", "a"))
    for filters in ({}, {"container_id": "box"}, {"image_id": "i"}):
        store.sessions.find_all(**filters)
    store.sessions.find_all(container_id="box", image_id="image")
    store.sessions.get_messages("session", last=2, before=last.id)
    store.sessions.get_messages("session", after=first.id)
    store.sessions.add_message("session", first)  # meets that it is there
    store.sessions.add_messages("session", [first, message()])  # has inserted one of them then
    store.sessions.truncate_after("session", first.id)
    _leave_behind(raw_mongodb, 2, term=0)  # which was before that
    assert store.sessions.add_message("session", message()) == 2
    _leave_behind(raw_mongodb, 3, log=ObjectId())
    assert store.sessions.add_message("session", message()) == 3
    _leave_behind(raw_mongodb, 9, log=ObjectId())
    store.sessions.replace_message("session", message(id=first.id))
    store.sessions.rewrite("session", after=first.id, messages=[message()])
    store.sessions.fork("session", session("copy"))
    store.images.update_metadata("i1", {"a": 1})
    store.containers.delete("box")
    assert raw_mongodb.messages.count_documents({}) == 0

    queries = list(_queries(commands))
    assert {query.collection for query in queries} == {
        "containers",
        "images",
        "sessions",
        "messages",
        "items",
    }
    assert sum(name == "delete" for name, _ in commands.sent) >= 6
    for collection, where, sort, hint in queries:
        found = raw_mongodb[collection].find(where, sort=list(sort.items()), hint=hint)
        if isinstance(where.get("_id"), str):
            continue  # one document
        explained = found.explain()
        stages = _stages(explained["queryPlanner"]["winningPlan"])
        names = {stage["stage"] for stage in stages}
        assert "IXSCAN" in names, (where, sort, hint)
        assert "COLLSCAN" not in names, (where, sort, hint)
        if "_id" in where:
            continue
        equal = {field for field, value in where.items() if not isinstance(value, dict)}
        fitting = [
            list(index["key"])
            for index in raw_mongodb[collection].list_indexes()
            if next(iter(index["key"])) in equal | (where.keys() if not equal else set())
        ]
        assert fitting, f"no index of {collection} begins with a field of {where}"
        if sort:
            # An equality on what comes before the sorted field in the index, so that a range of
            # it has the order (https://www.mongodb.com/docs/manual/core/indexes/index-types/
            # index-compound/sort-order/).
            assert any(
                set(key[:at]) <= equal and key[at : at + 1] == list(sort)
                for key in fitting
                for at in range(len(key))
            ), where
        if explained["serverInfo"]["host"] != "secantus":  # which sorts what it need not
            assert "SORT" not in names


def test_what_is_stored_is_exact_text_beside_native_fields(
    store: Persistence, raw_mongodb: Database[Any]
) -> None:
    tricky = {
        "$ref": "a",
        "$id": 1,
        "b": {"$db": 1},
        "": 10**40,
        "a.b": [1.0, -0.0],
        "\x00": "\x00",
    }
    record = image("i", custom_data=tricky, created_at=5, metadata=ImageMetadata(x=DBRef.__name__))
    store.images.save(record)
    saved_session(store)
    store.sessions.add_message("session", message("text\x00"))
    (stored,) = raw_mongodb.images.with_options(CodecOptions(document_class=dict)).find()
    assert stored["text"] == record.to_json()
    assert (stored["_id"], stored["container_id"], stored["name"]) == ("i", "box", "plan")
    assert isinstance(stored["created_at"], Int64)
    (row,) = raw_mongodb.messages.find()
    assert isinstance(row["text"], str)
    assert (row["session_id"], row["position"]) == ("session", 1)
    assert store.images.get("i") == record


def test_a_name_that_is_taken_away_is_in_no_index(
    store: Persistence, raw_mongodb: Database[Any]
) -> None:
    store.images.save(image("i", name="named"))
    store.images.save(image("i", name=None))
    assert "name" not in raw_mongodb.images.find_one({"_id": "i"})
    assert store.images.find_all(name="named") == []
    assert [i.image_id for i in store.images.find_all(container_id="box")] == ["i"]


def test_what_mongodb_cannot_hold_is_refused_before_it_is_sent(
    store: Persistence, commands: Commands
) -> None:
    saved_session(store)
    small = message("small")
    store.sessions.add_message("session", small)
    commands.sent.clear()
    with pytest.raises(RecordTooLargeError) as raised:
        store.sessions.add_messages("session", [message(), message("é" * 9 * MEGABYTE, id="big")])
    assert (raised.value.kind, raised.value.id) == ("message", "big")
    assert raised.value.limit == 16 * MEGABYTE < raised.value.size
    with pytest.raises(RecordTooLargeError) as raised:
        store.images.save(image("i", system_prompt="x" * 17 * MEGABYTE))
    assert (raised.value.kind, raised.value.id) == ("image", "i")
    assert commands.names == ["find"]
    assert store.sessions.get_messages("session") == [small]
    large = message("x" * 15 * MEGABYTE)
    assert store.sessions.add_message("session", large) == 2
    assert store.sessions.get_messages("session", last=1) == [large]


def test_a_session_that_is_too_large_leaves_no_messages(
    store: Persistence, raw_mongodb: Database[Any]
) -> None:
    large = session("large", title="x" * 17 * MEGABYTE)
    with pytest.raises(RecordTooLargeError) as raised:
        store.sessions.add_message("large", message(), create=large)
    assert (raised.value.kind, raised.value.id) == ("session", "large")
    saved_session(store)
    store.sessions.add_message("session", message())
    with pytest.raises(RecordTooLargeError) as raised:
        store.sessions.fork("session", large)
    assert (raised.value.kind, raised.value.id) == ("session", "large")
    assert raw_mongodb.messages.count_documents({"session_id": "large"}) == 0
    assert not store.sessions.exists("large")


def test_a_message_taken_out_by_hand_is_missed(
    store: Persistence, raw_mongodb: Database[Any]
) -> None:
    saved_session(store)
    store.sessions.add_messages("session", [message(str(number)) for number in range(5)])
    raw_mongodb.messages.delete_one({"session_id": "session", "position": 3})
    for window in ({}, {"last": 3}, {"first": 3}):
        with pytest.raises(CorruptRecordError) as raised:
            store.sessions.get_messages("session", **window)
        assert raised.value.id == "#3"
        assert "position 3" in raised.value.where
    assert texts(store, last=2) == ["3", "4"]


@pytest.mark.parametrize("field", ["created_at", "count", "log"])
def test_a_field_taken_out_by_hand_is_missed(
    store: Persistence, raw_mongodb: Database[Any], field: str
) -> None:
    saved_session(store)
    raw_mongodb.sessions.update_one({"_id": "session"}, {"$unset": {field: ""}})
    sessions = store.sessions
    read = sessions.get if field == "created_at" else sessions.count_messages
    with pytest.raises(CorruptRecordError, match=field) as raised:
        read("session")
    assert (raised.value.kind, raised.value.id) == ("session", "session")
