"""The ancestor's stores, in all six layouts: each record is what its own API answered."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from redis import Redis
from sqlalchemy import URL

from agentx_persistence import BackendError, Persistence, create_persistence
from agentx_persistence._sql import schema
from agentx_persistence.transfer import ImportReport, compare, copy, import_ancestor
from tests.ancestor import ancestor_data, ancestor_file


@pytest.fixture
def memory() -> Iterator[Persistence]:
    with create_persistence() as persistence:
        yield persistence


def _wire(records: list[Any]) -> list[Any]:
    return [json.loads(record.to_json()) for record in records]


def _by_id(records: list[Any], id: str) -> list[Any]:
    return sorted(records, key=lambda record: str(record[id]))


def check(source: str, expected: dict[str, Any], persistence: Persistence) -> ImportReport:
    """Import twice; compare with what the ancestor's API answered."""
    report = import_ancestor(source, persistence)
    orphans = {
        id
        for id, messages in expected["messages"].items()
        if messages and id not in {session["sessionId"] for session in expected["sessions"]}
    }
    for kind, id, records in (
        ("containers", "containerId", persistence.containers.find_all()),
        ("images", "imageId", persistence.images.find_all()),
        (
            "sessions",
            "sessionId",
            [s for s in persistence.sessions.find_all() if s.session_id not in orphans],
        ),
    ):
        assert _by_id(_wire(records), id) == _by_id(expected[kind], id)
    for session_id, messages in expected["messages"].items():
        if messages or persistence.sessions.exists(session_id):
            assert _wire(persistence.sessions.get_messages(session_id)) == messages
    assert report.skipped == []
    assert [note for note in report.notes if "no record" in note] == [
        f"session {id!r} had messages but no record; one was made for it" for id in orphans
    ]
    assert any("index entries were stale" in note for note in report.notes)
    with create_persistence() as before:
        copy(persistence, before)
        again = import_ancestor(source, persistence)
        assert (again.records, again.messages) == ({}, 0)
        assert compare(before, persistence).equal
    return report


def test_the_sqlite_file_of_1_9(memory: Persistence) -> None:
    report = check(str(ancestor_file("agentx-v1.db")), ancestor_data("expected.json"), memory)
    assert report.messages == 201
    assert report.records == {"containers": 3, "images": 12, "sessions": 13}


def test_the_folder_of_1_9(memory: Persistence, tmp_path: Path) -> None:
    with tarfile.open(ancestor_file("agentx-v1-fs.tar.gz")) as archive:
        archive.extractall(tmp_path, filter="data")
    check(str(tmp_path / "agentx-v1-fs"), ancestor_data("expected.json"), memory)


def test_the_dump_of_redis(memory: Persistence) -> None:
    check(str(ancestor_file("agentx-v1-redis.jsonl")), ancestor_data("expected.json"), memory)


@pytest.mark.parametrize(
    ("dump", "answers"),
    [
        ("agentx-v1-redis.jsonl", "expected.json"),
        ("agentx-head-redis.jsonl", "expected-head.json"),
    ],
)
def test_a_redis_server(memory: Persistence, redis_server: Any, dump: str, answers: str) -> None:
    pairs = [
        json.loads(line) for line in ancestor_file(dump).read_text("utf-8").strip().split("\n")
    ]
    with Redis.from_url(redis_server.url) as client:
        client.mset({pair["key"]: pair["value"] for pair in pairs})
        try:
            check(redis_server.url, ancestor_data(answers), memory)
        finally:
            client.delete(*[pair["key"] for pair in pairs])


def test_a_mongodb_server(memory: Persistence, mongodb_server: Any) -> None:
    lines = ancestor_file("agentx-v1-mongodb.jsonl").read_text("utf-8").strip().split("\n")
    client: MongoClient[Any]
    with MongoClient(mongodb_server.url) as client:
        client["ancestor"]["unstorage"].insert_many([json.loads(line) for line in lines])
        try:
            place, _, options = mongodb_server.url.partition("?")
            url = f"{place.rstrip('/')}/ancestor?{options}"
            check(url, ancestor_data("expected.json"), memory)
        finally:
            client.drop_database("ancestor")


@pytest.mark.parametrize("name", ["mysql", "postgresql"])
def test_a_database_server(memory: Persistence, request: pytest.FixtureRequest, name: str) -> None:
    dump = ancestor_file(f"agentx-v1-{name}.sql").read_text("utf-8")
    server = request.getfixturevalue(f"{name}_server")
    server.recreate("ancestor")
    url: URL = server.url.set(database="ancestor")
    engine = schema.migrating_engine(schema.parse_url(url))
    try:
        with engine.begin() as connection:
            for statement in _statements(dump):
                connection.exec_driver_sql(statement.replace("%", "%%"))
        source = url.render_as_string(hide_password=False)
        check(source, ancestor_data("expected.json"), memory)
    finally:
        engine.dispose()
        server.execute("DROP DATABASE ancestor")


def _statements(dump: str) -> list[str]:
    return re.findall(r"^(?:CREATE TABLE|INSERT INTO) .*?;$", dump, re.MULTILINE | re.DOTALL)


def test_prototypes_and_providers_become_items(memory: Persistence) -> None:
    expected = ancestor_data("expected-head.json")
    source = str(ancestor_file("agentx-head.db"))
    report = check(source, expected, memory)
    for prototype in expected["prototypes"]:
        namespace = (prototype["containerId"], "prototypes")
        item = memory.items.get(namespace, prototype["prototypeId"])
        assert item.value == prototype
        assert item.created_at == prototype["createdAt"]
    for provider in expected["llmProviders"].values():
        item = memory.items.get((provider["containerId"], "llm-providers"), provider["id"])
        assert item.value == {k: v for k, v in provider.items() if k != "apiKey"}
    assert any("API keys of 4 providers" in note for note in report.notes)


def test_keys_of_providers_are_copied_when_asked_for(memory: Persistence) -> None:
    source = str(ancestor_file("agentx-head.db"))
    import_ancestor(source, memory, keys=True)
    item = memory.items.get(("default", "llm-providers"), "llm_anthropic")
    assert item.value["apiKey"] == "sk-test-not-a-real-key-0"


def test_the_folder_of_the_newest_version(memory: Persistence, tmp_path: Path) -> None:
    with tarfile.open(ancestor_file("agentx-head-fs.tar.gz")) as archive:
        archive.extractall(tmp_path, filter="data")
    check(str(tmp_path / "agentx-head-fs"), ancestor_data("expected-head.json"), memory)


def test_what_cannot_be_read_is_named(memory: Persistence, tmp_path: Path) -> None:
    def write(key: str, value: str) -> None:
        path = tmp_path / key
        path.parent.mkdir(exist_ok=True)
        path.write_text(value)

    write("containers/c", '{"containerId":"c","createdAt":1,"updatedAt":1}')
    write("images/i", '{"imageId": "i"')
    write(
        "sessions/s",
        '{"sessionId":"s","imageId":"i","containerId":"c","createdAt":1,"updatedAt":1}',
    )
    good = '{"id":"m1","role":"user","subtype":"user","content":"hi","timestamp":5}'
    write("messages/s", f'[{good},{{"id":"m2"}},{good}]')
    write("messages/t", "[")
    report = import_ancestor(str(tmp_path), memory)
    assert memory.sessions.count_messages("s") == 1
    assert [line.partition(": ")[0] for line in report.skipped] == [
        "images:i",
        "messages:s, message 2",
        "messages:s, message 3",
        "messages:t, message 1",
    ]


@pytest.mark.parametrize("place", ["nowhere", "sqlite:///nowhere.db", "mongodb://127.0.0.1:1/x"])
def test_a_source_that_is_not_there_is_refused(
    memory: Persistence, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BackendError):
        import_ancestor(place, memory)
    assert not list(tmp_path.iterdir())


def test_what_is_not_utf_8_is_named(memory: Persistence, tmp_path: Path) -> None:
    for name, content in (("containers", b'{"containerId": "\xff"}'), ("messages", b"\xff")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "bad").write_bytes(content)
    report = import_ancestor(str(tmp_path), memory)
    assert [line.partition(":")[2][:3] for line in report.skipped] == ["bad", "bad"]
    assert memory.containers.count() == memory.sessions.count() == 0


def test_messages_of_what_can_be_no_session_are_named(memory: Persistence, tmp_path: Path) -> None:
    (tmp_path / "messages").mkdir()
    sent = '[{"id":"m","role":"user","subtype":"user","content":"x","timestamp":1}]'
    for name in ("a\nb", "good"):
        (tmp_path / "messages" / name).write_text(sent)
    report = import_ancestor(str(tmp_path), memory)
    assert [line.partition(": ")[0] for line in report.skipped] == ["messages:a\nb"]
    assert memory.sessions.count_messages("good") == 1
