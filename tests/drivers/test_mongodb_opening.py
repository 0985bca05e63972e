"""Opening a MongoDB database: its indexes, its names, and the caller's own client."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.database import Database

from agentx_persistence import SchemaError, create_persistence
from agentx_persistence.mongodb import mongodb_driver
from tests.backends.backend import Backend
from tests.contract.records import image, message, saved_session, session, texts
from tests.servers.mongodb import Commands, MongodbServer


def test_many_that_open_an_empty_database_at_once_all_succeed(
    mongodb_backend: Backend, raw_mongodb: Database[Any]
) -> None:
    def use(number: int) -> None:
        with mongodb_backend.open() as persistence:
            persistence.images.save(image(f"i{number}"))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(use, range(8)))
    assert raw_mongodb.images.count_documents({}) == 8
    unique = [i["key"] for i in raw_mongodb.messages.list_indexes() if i.get("unique")]
    assert sorted(list(key) for key in unique) == [
        ["session_id", "message_id", "log"],
        ["session_id", "position", "log"],
    ]


def test_opening_an_indexed_database_costs_one_command_for_each_collection(
    mongodb_backend: Backend,
) -> None:
    mongodb_backend.open().close()
    commands = Commands()
    driver = mongodb_driver(
        *mongodb_backend.arguments, **mongodb_backend.options, event_listeners=[commands]
    )
    create_persistence(driver).close()
    assert [n for n in commands.names if n != "endSessions"] == ["hello"] + 5 * ["createIndexes"]


def test_other_indexes_of_the_same_name_are_an_error_that_says_so(
    mongodb_backend: Backend, raw_mongodb: Database[Any]
) -> None:
    raw_mongodb.messages.create_index([("session_id", 1), ("position", 1), ("log", 1)])
    with pytest.raises(SchemaError, match="drop those indexes"):
        mongodb_backend.open()


def test_prefixes_keep_stores_in_one_database_apart(
    mongodb_backend: Backend, mongodb_server: MongodbServer, raw_mongodb: Database[Any]
) -> None:
    name = mongodb_backend.options["database_name"]
    one, two = (
        create_persistence(
            mongodb_driver(mongodb_server.url, database_name=name, collection_prefix=prefix)
        )
        for prefix in ("one_", "")
    )
    with one, two:
        saved_session(one)
        one.sessions.add_message("session", message())
        assert two.sessions.find_all() == []
        two.sessions.save(session())
        assert two.sessions.get_messages("session") == []
        two.sessions.delete("session")
        assert one.sessions.count_messages("session") == 1
    assert raw_mongodb.one_messages.count_documents({}) == 1


def test_what_a_callers_client_prefers_changes_no_promise(
    mongodb_backend: Backend, mongodb_server: MongodbServer
) -> None:
    commands = Commands()
    with MongoClient(
        mongodb_server.url, w=0, readPreference="secondaryPreferred", event_listeners=[commands]
    ) as client:
        driver = mongodb_driver(client=client, **mongodb_backend.options)
        with create_persistence(driver) as persistence:
            saved_session(persistence)
            persistence.sessions.add_message("session", message("kept"))
            assert texts(persistence) == ["kept"]
        writes = [command for name, command in commands.sent if name in ("insert", "update")]
        assert writes
        for command in writes:
            assert command["writeConcern"]["w"] == "majority"
            assert command["writeConcern"]["j"] is True
        client.admin.command("ping")  # not closed
