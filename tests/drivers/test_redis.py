"""What a Redis server is asked, and what lies in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from redis import BlockingConnectionPool, Redis
from redis.connection import AbstractConnection
from redis.crc import key_slot

from agentx_persistence import (
    BackendError,
    CorruptRecordError,
    InvalidRecordError,
    ItemRecord,
    Persistence,
    create_persistence,
)
from agentx_persistence._redis.keys import Keys, place
from agentx_persistence.redis import redis_driver
from agentx_persistence.storage import IMAGES, SESSIONS
from agentx_persistence.transfer import compare, copy
from tests.backends.backend import Backend
from tests.contract.records import container, image, message, saved_session, session, texts
from tests.servers.redis import RedisServer

HOSTILE = ["{x}", "{", "}", "{}", "*", "[a-z]", "?", "a:b", "a", "{x}:sessions", "é", "%7B", "\\"]


@pytest.fixture
def store(redis_backend: Backend) -> Iterator[Persistence]:
    with redis_backend.open() as persistence:
        yield persistence


@pytest.fixture
def raw(redis_server: RedisServer) -> Iterator[Redis]:
    """A client of the same server, for what the package would not do."""
    with redis_server.client(socket_timeout=60) as client:
        yield client


@pytest.fixture
def round_trips(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each time that something is sent."""
    sent: list[int] = []
    send = AbstractConnection.send_packed_command

    def counting(connection: AbstractConnection, command: Any, **options: Any) -> None:
        sent.append(1)
        send(connection, command, **options)

    monkeypatch.setattr(AbstractConnection, "send_packed_command", counting)
    return sent


def keys_of(raw: Redis, backend: Backend) -> list[bytes]:
    return sorted(raw.scan_iter(f"{backend.options['base']}:*", count=1000))


def commands(raw: Redis) -> Counter[str]:
    stats = raw.info("commandstats")
    return Counter({name.removeprefix("cmdstat_"): stat["calls"] for name, stat in stats.items()})


@pytest.mark.parametrize("stored", [10, 10_000])
def test_an_append_is_one_round_trip_however_long_the_history(
    store: Persistence, round_trips: list[int], stored: int
) -> None:
    saved_session(store)
    store.sessions.add_messages("session", [message() for _ in range(stored)])
    store.sessions.add_message("session", message())  # from now on the server has the script
    round_trips.clear()
    assert store.sessions.add_message("session", message()) == stored + 2
    assert len(round_trips) == 1
    assert store.sessions.add_messages("session", [message(), message()])[1] == stored + 4
    assert len(round_trips) == 2


def test_reading_and_saving_again_are_one_round_trip_each(
    store: Persistence, round_trips: list[int]
) -> None:
    saved_session(store)
    record = image("i")
    store.images.save(record)
    store.sessions.add_messages("session", [message() for _ in range(1000)])
    for read in (
        lambda: store.sessions.get_messages("session"),
        lambda: store.sessions.get_messages("session", last=50),
        lambda: store.sessions.get_messages("session", first=50),
        lambda: store.sessions.count_messages("session"),
        lambda: store.images.get("i"),
        lambda: store.images.exists("i"),
        lambda: store.images.save(record),
    ):
        read()
        round_trips.clear()
        read()
        assert len(round_trips) == 1


# Copies of one image, written as the package would.
_COPIES = """
for i = ARGV[1] + 1, ARGV[1] + 10000 do
  local id = string.format('i%06d', i)
  local document = KEYS[1]:gsub('TEMPLATE', id)
  local text = ARGV[2]:gsub('TEMPLATE', id)
  redis.call('HSET', document, 'text', text, 'updated_at', 1, 'revision', 'r',
    'version', 'v', 'entries', ARGV[3])
  for k = 2, #KEYS do redis.call('ZADD', KEYS[k], 0, ARGV[4] .. id .. '\\0v') end
end
"""


def test_a_page_of_100000_images_is_two_round_trips_and_no_scan(
    store: Persistence, redis_backend: Backend, raw: Redis, round_trips: list[int]
) -> None:
    keys = Keys(redis_backend.options["base"])
    record = image("TEMPLATE", name="plan", created_at=1, updated_at=1)
    store.images.save(record)
    document = keys.document(IMAGES, "TEMPLATE")
    entries = raw.hget(document, "entries")
    store.images.delete("TEMPLATE")
    both = {"container_id": "box", "name": "plan"}
    wheres = ({}, {"container_id": "box"}, {"name": "plan"}, both)
    indexes = [keys.index(IMAGES, where) for where in wheres]
    for start in range(0, 100_000, 10_000):
        values = (start, record.to_json(), entries, place(1, ""))
        raw.eval(_COPIES, 1 + len(indexes), document, *indexes, *values)
    store.images.find_all(limit=1)  # from now on the server has the script
    cursor = None
    for expected in range(3):
        for filters in ({}, {"container_id": "box"}, {"container_id": "box", "name": "plan"}):
            before, _ = commands(raw), round_trips.clear()
            page = store.images.find_page(size=20, cursor=cursor, **filters)
            assert len(round_trips) <= 2
            asked = commands(raw) - before - Counter(["info"])
            assert asked == {"zrange": 1, "evalsha": 1, "hmget": 20}
            assert [i.image_id for i in page.items] == [
                f"i{number:06}" for number in range(expected * 20 + 1, expected * 20 + 21)
            ]
        cursor = page.next_cursor
    assert len(store.images.find_all(name="plan", limit=2500)) == 2500
    raw.unlink(*indexes)


def test_nothing_is_ever_found_by_scan_or_keys(store: Persistence, raw: Redis) -> None:
    before = commands(raw)
    store.containers.save(container())
    for number in range(3):
        store.images.save(image(f"i{number}", name="plan"))
        saved_session(store, f"s{number}")
        store.sessions.add_message(f"s{number}", message())
    store.images.update_metadata("i1", {"a": 1})
    store.sessions.clear_messages("s1")
    store.containers.find_all()
    store.images.find_page(container_id="box", name="plan", size=2)
    store.containers.delete("box")
    assert not {"scan", "keys", "sscan", "hscan", "zscan", "randomkey"} & set(
        commands(raw) - before
    )


def test_hostile_ids_and_names_touch_only_what_is_theirs(
    store: Persistence, redis_backend: Backend, raw: Redis
) -> None:
    for id in HOSTILE:
        store.images.save(image(id, container_id=id, name=id))
        store.sessions.save(session(id, image_id=id, container_id=id))
        store.sessions.add_message(id, message(f"of {id}"))
    assert len(keys_of(raw, redis_backend)) == len(HOSTILE) * 11 + 2
    for id in HOSTILE:
        assert texts(store, id) == [f"of {id}"]
        assert [i.image_id for i in store.images.find_all(name=id)] == [id]
    for gone, id in enumerate(HOSTILE, 1):
        assert store.containers.delete(id) is False
        assert len(store.images.find_all()) == len(HOSTILE) - gone
        assert len(store.sessions.find_all()) == len(HOSTILE) - gone
    assert keys_of(raw, redis_backend) == []


@pytest.mark.parametrize("base", ["agentx", "a:b", "a{b}c", "}{", "*", ""])
@pytest.mark.parametrize("id", HOSTILE)
def test_what_belongs_to_one_session_is_in_one_slot(base: str, id: str) -> None:
    keys = Keys(base)
    pairs = [keys.document(SESSIONS, id), keys.journal(SESSIONS, id), *keys.log(id)]
    assert pairs[0] == pairs[2]
    assert len({key_slot(key) for key in pairs}) == 1
    assert all(key.decode().startswith(f"{base}:") for key in pairs)


def test_two_bases_know_nothing_of_each_other(redis_server: RedisServer, raw: Redis) -> None:
    bases = ["a", "a:b", "a:{b}", "a:{x}:sessions", "A"]
    opened = {base: create_persistence(redis_driver(redis_server.url, base=base)) for base in bases}
    ids = ["x", "b", "b}:sessions", "{x}:sessions"]
    for base, persistence in opened.items():
        for id in ids:
            persistence.sessions.save(session(id, note=base))
            persistence.sessions.add_message(id, message(f"{base} {id}"))
    for base, persistence in opened.items():
        for id in ids:
            assert texts(persistence, id) == [f"{base} {id}"]
            assert persistence.sessions.get(id).model_extra == {"note": base}
        assert len(persistence.sessions.find_all()) == len(ids)
    for persistence in opened.values():
        for id in ids:
            assert persistence.sessions.delete(id)
        assert persistence.sessions.find_all() == []
        persistence.close()
    assert not list(raw.scan_iter("[aA]:*", count=1000))


@pytest.mark.parametrize("base", ["{}", "a{}b", "a\n", 1, None, "\ud800"])
def test_a_base_that_could_not_be_kept_apart_is_refused(base: Any) -> None:
    with pytest.raises(InvalidRecordError, match="base"):
        redis_driver(base=base)


def test_a_record_whose_key_is_of_another_type_is_corrupt(
    store: Persistence, redis_backend: Backend, raw: Redis
) -> None:
    keys = Keys(redis_backend.options["base"])
    store.images.save(image("i"))
    raw.set(keys.document(IMAGES, "i"), "text")
    for call in (lambda: store.images.get("i"), store.images.find_all):
        with pytest.raises(CorruptRecordError, match=r":\{i\}:images'") as raised:
            call()
        assert (raised.value.kind, raised.value.id) == ("image", "i")
    with pytest.raises(CorruptRecordError):
        store.images.save(image("i"))
    raw.set(keys.index(IMAGES, {"name": "other"}), "text")
    with pytest.raises(BackendError, match=r"\{other\}:images.by.name'"):
        store.images.find_all(name="other")


@pytest.mark.parametrize("field", ["text", "updated_at", "revision", "entries"])
def test_a_record_with_a_missing_field_is_corrupt_and_can_be_replaced(
    store: Persistence, redis_backend: Backend, raw: Redis, field: str
) -> None:
    store.images.save(image("i", name="old"))
    raw.hdel(Keys(redis_backend.options["base"]).document(IMAGES, "i"), field)
    for call in (lambda: store.images.get("i"), store.images.find_all):
        with pytest.raises(CorruptRecordError):
            call()
    store.images.save(image("i", name="new"))
    assert [i.name for i in store.images.find_all(container_id="box")] == ["new"]
    assert store.images.find_all(name="old") == []
    assert store.images.delete("i") is True


@pytest.mark.parametrize("lost", ["messages", "positions"])
def test_a_log_that_lost_a_part_is_corrupt_and_never_looks_empty(
    store: Persistence, redis_backend: Backend, raw: Redis, lost: str
) -> None:
    keys = Keys(redis_backend.options["base"])
    saved_session(store)
    first = message("first")
    store.sessions.add_messages("session", [first, message("second")])
    _, messages, positions = keys.log("session")
    raw.delete(messages if lost == "messages" else positions)
    sessions = store.sessions
    calls = [
        lambda: sessions.add_message("session", message()),
        lambda: sessions.add_message("session", first),
        lambda: sessions.truncate_after("session", first.id),
        lambda: sessions.clear_messages("session"),
    ]
    if lost == "messages":
        calls += [
            lambda: sessions.get_messages("session"),
            lambda: sessions.count_messages("session"),
        ]
    for call in calls:
        with pytest.raises(CorruptRecordError, match=r"\{session\}:messages"):
            call()
    assert sessions.delete("session") is True
    assert keys_of(raw, redis_backend) == []


@pytest.mark.parametrize("count", ["abc", "", "3"])
def test_a_count_that_is_no_number_is_damage(
    store: Persistence, redis_backend: Backend, raw: Redis, count: str
) -> None:
    saved_session(store)
    store.sessions.add_messages("session", [message("first"), message("second")])
    document, *_ = Keys(redis_backend.options["base"]).log("session")
    raw.hset(document, "count", count)
    sessions = store.sessions
    for call in (
        lambda: sessions.get_messages("session"),
        lambda: sessions.get_messages("session", last=1),
        lambda: sessions.summaries(["session"]),
        lambda: sessions.add_message("session", message()),
        lambda: sessions.pop_message("session"),
    ):
        with pytest.raises(CorruptRecordError, match="session"):
            call()


@pytest.mark.parametrize("position", [4, 999])
def test_a_batch_leaves_a_log_as_it_is_whose_positions_are_damaged(
    store: Persistence, redis_backend: Backend, raw: Redis, position: int
) -> None:
    saved_session(store)
    there = [message("first"), message("second")]
    store.sessions.add_messages("session", there)
    _, messages, positions = Keys(redis_backend.options["base"]).log("session")
    raw.zadd(positions, {there[0].id: position})
    before = raw.lrange(messages, 0, -1), raw.zrange(positions, 0, -1, withscores=True)
    with pytest.raises(CorruptRecordError):
        store.sessions.add_messages("session", [message(), there[1], message()])
    after = raw.lrange(messages, 0, -1), raw.zrange(positions, 0, -1, withscores=True)
    assert after == before


def test_an_index_entry_of_a_record_that_vanished_is_removed_and_never_returned(
    store: Persistence, redis_backend: Backend, raw: Redis
) -> None:
    keys = Keys(redis_backend.options["base"])
    for number in range(30):
        store.images.save(image(f"i{number:02}", name="plan", created_at=1))
    raw.delete(*(keys.document(IMAGES, f"i{number:02}") for number in range(25)))
    page = store.images.find_page(name="plan", size=3)
    assert [i.image_id for i in page.items] == ["i25", "i26", "i27"]
    rest = store.images.find_page(name="plan", size=3, cursor=page.next_cursor)
    assert [i.image_id for i in rest.items] == ["i28", "i29"]
    assert raw.zcard(keys.index(IMAGES, {"name": "plan"})) == 5


def test_a_save_restores_index_entries_that_are_missing(
    store: Persistence, redis_backend: Backend, raw: Redis
) -> None:
    keys = Keys(redis_backend.options["base"])
    saved = image("i", name="plan")
    store.images.save(saved)
    raw.delete(keys.index(IMAGES, {}), keys.index(IMAGES, {"name": "plan"}))
    store.images.save(saved)
    assert store.images.find_all() == store.images.find_all(name="plan") == [saved]


def test_a_deletion_that_fails_half_way_leaves_nothing_that_no_listing_finds(
    store: Persistence, redis_backend: Backend, raw: Redis
) -> None:
    keys = Keys(redis_backend.options["base"])
    boxes = [f"box {number}" for number in range(12)]  # which key fails first depends on its name
    for box in boxes:
        for id in ("one", "two"):
            store.sessions.save(session(f"{box} {id}", container_id=box, image_id="image"))
            store.sessions.add_message(f"{box} {id}", message())
        raw.delete(keys.active(box))
        raw.set(keys.active(box), "of another type")
        for delete, id in ((store.sessions.delete, f"{box} one"), (store.containers.delete, box)):
            with pytest.raises(CorruptRecordError):
                delete(id)
        raw.delete(keys.active(box))
        there = store.sessions.find_many([f"{box} one", f"{box} two"])
        listed = store.sessions.find_all(container_id=box)
        assert there == {found.session_id: found for found in listed}
        store.containers.delete(box)
        assert store.sessions.find_all(container_id=box) == []
        assert store.sessions.find_all(container_id=box, image_id="image") == []
    assert store.sessions.find_all() == store.sessions.find_all(image_id="image") == []
    assert keys_of(raw, redis_backend) == []


def test_an_item_is_not_saved_if_it_cannot_be_listed(
    store: Persistence, redis_backend: Backend, raw: Redis
) -> None:
    firsts = Keys(redis_backend.options["base"]).firsts()
    item = ItemRecord(namespace=("box",), key="key", value=1)
    raw.set(firsts, "of another type")
    with pytest.raises(CorruptRecordError):
        store.items.create(item)
    assert store.items.find(("box",), "key") is None
    raw.delete(firsts)
    store.items.save(item)
    raw.delete(firsts)
    store.items.save(item)
    assert raw.zrange(firsts, 0, -1) == [b"box"]


def test_a_damaged_time_is_told_by_every_way_of_reading(
    store: Persistence, redis_backend: Backend, raw: Redis
) -> None:
    keys = Keys(redis_backend.options["base"])
    store.images.save(image("i"))
    raw.hset(keys.document(IMAGES, "i"), "updated_at", "soon")
    for read in (lambda: store.images.get("i"), store.images.find_all):
        with pytest.raises(CorruptRecordError, match=r"\{i\}:images"):
            read()


def test_a_server_that_forgot_the_scripts_is_told_them_again(
    store: Persistence, raw: Redis
) -> None:
    saved_session(store)
    store.sessions.add_message("session", message("one"))
    raw.script_flush()
    store.sessions.add_message("session", message("two"))
    assert texts(store) == ["one", "two"]


def test_a_copy_between_stores_that_share_one_connection(
    redis_server: RedisServer, redis_backend: Backend
) -> None:
    """Large enough that the next messages are read after the first ones were sent."""
    base = redis_backend.options["base"]
    pool = BlockingConnectionPool.from_url(redis_server.url, max_connections=1, timeout=1)
    with (
        Redis(connection_pool=pool) as client,
        create_persistence(redis_driver(client=client, base=base)) as source,
        create_persistence(redis_driver(client=client, base=f"{base}-copy")) as target,
    ):
        for id in ("one", "two", "three"):
            saved_session(source, id)
            source.sessions.add_messages(id, [message("x" * 5000) for _ in range(200)])
        copy(source, target)
        assert compare(source, target).equal
    pool.disconnect()
