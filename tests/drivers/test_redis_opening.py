"""Mistakes that opening finds, and refusals that pass or do not."""

from __future__ import annotations

import re
import secrets
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ResponseError

from agentx_persistence import (
    BackendUnavailableError,
    RecordTooLargeError,
    create_persistence,
)
from agentx_persistence.redis import DataLossWarning, redis_driver
from tests.backends.redis import as_user
from tests.contract.records import image, message, saved_session, texts
from tests.servers.nodes import wait_until
from tests.servers.redis import (
    RedisCluster,
    RedisServer,
    redis_6_binary,
    redis_binary,
    start_server,
    valkey_binary,
)


@pytest.fixture
def server(redis_with_users: RedisServer) -> RedisServer:
    return redis_with_users


def test_the_rights_that_the_error_names_are_enough(server: RedisServer) -> None:
    driver = redis_driver(as_user(server, "least"), base="least")
    with create_persistence(driver) as persistence:
        saved_session(persistence)
        first = message("first")
        persistence.sessions.add_messages("session", [first, message("second")])
        persistence.sessions.add_message("session", message("third"))
        persistence.images.save(image("i"))
        assert len(persistence.sessions.find_all(container_id="box", order="active")) == 1
        assert persistence.sessions.count(container_id="box") == 1
        persistence.sessions.fork(
            "session", persistence.sessions.get("session").model_copy(update={"session_id": "copy"})
        )
        assert persistence.sessions.truncate_after("session", first.id) == 2
        assert texts(persistence, "copy") == ["first", "second", "third"]
        assert persistence.containers.delete("box") is False
        assert persistence.sessions.find_all() == []


def test_opening_tries_each_command_that_a_script_calls() -> None:
    from agentx_persistence import _redis
    from agentx_persistence._redis.opening import _CHECK, COMMANDS

    sources = [file.read_text() for file in Path(*_redis.__path__).glob("*.py")]
    called = {name for text in sources for name in re.findall(r"redis\.p?call\('(\w+)'", text)}
    tried = set(re.findall(r"run\('(\w+)'", _CHECK.lua))
    assert called <= tried, called - tried
    assert {name.lower() for name in tried} <= set(COMMANDS)


def test_each_scheme_opens_its_server(
    server: RedisServer, redis_cluster_server: RedisCluster
) -> None:
    address = server.url.removeprefix("redis")
    for url in (f"redis{address}", f"REDIS{address}", f"valkey{address}/3"):
        create_persistence(url, base="scheme").close()
    url = f"redis+cluster{redis_cluster_server.url.removeprefix('redis')}"
    create_persistence(url, base="scheme").close()


def test_opening_leaves_nothing_behind(server: RedisServer) -> None:
    base = f"test-{secrets.token_hex(6)}"
    create_persistence(redis_driver(server.url, base=base)).close()
    with server.client() as client:
        assert list(client.scan_iter(f"{base}:*")) == []


def test_a_text_larger_than_the_server_takes_is_refused_before_it_is_sent(
    server: RedisServer,
) -> None:
    with server.client() as client:
        client.config_set("proto-max-bulk-len", 1024 * 1024)
        try:
            with create_persistence(redis_driver(server.url, base="large")) as persistence:
                saved_session(persistence)
                with pytest.raises(RecordTooLargeError) as raised:
                    persistence.sessions.add_message("session", message("x" * 1024 * 1024))
                assert raised.value.limit == 1024 * 1024
                assert persistence.sessions.count_messages("session") == 0
                persistence.sessions.delete("session")
        finally:
            client.config_set("proto-max-bulk-len", 512 * 1024 * 1024)


@pytest.mark.parametrize(
    ("setting", "value", "normal", "warned"),
    [
        ("maxmemory-policy", "volatile-lru", "noeviction", ""),
        ("maxmemory-policy", "allkeys-lfu", "noeviction", "allkeys-lfu"),
        ("appendfsync", "no", "everysec", "appendfsync is no"),
        ("appendfsync", "always", "everysec", ""),
    ],
)
def test_only_settings_that_can_lose_something_are_warned_of(
    server: RedisServer, setting: str, value: str, normal: str, warned: str
) -> None:
    with server.client() as client, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DataLossWarning)
        client.config_set(setting, value)
        try:
            create_persistence(redis_driver(server.url)).close()
        finally:
            client.config_set(setting, normal)
    found = " ".join(str(warning.message) for warning in caught)
    assert bool(found) is bool(warned)
    assert warned in found


@pytest.mark.parametrize("binary", [redis_binary, valkey_binary, redis_6_binary])
def test_a_server_that_lets_scripts_write_without_replicas_is_warned_of(
    binary: Callable[[], Path], tmp_path: Path
) -> None:
    server = start_server(tmp_path, binary())
    try:
        driver = redis_driver(server.url)
        with create_persistence(driver) as persistence, server.client() as client:
            saved_session(persistence)
            client.config_set("min-replicas-to-write", 1)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", DataLossWarning)
                create_persistence(driver).close()
        assert ["min-replicas-to-write" in str(one.message) for one in caught] == (
            [True] if server.version < 7 else []
        )
    finally:
        server.stop()


def test_a_refusal_that_passes_is_repeated(server: RedisServer) -> None:
    driver = redis_driver(server.url, base="busy", retry_seconds=10)
    with create_persistence(driver) as persistence, server.client() as client:
        saved_session(persistence)
        client.config_set("min-replicas-to-write", 1)
        timer = threading.Timer(0.5, lambda: client.config_set("min-replicas-to-write", 0))
        timer.start()
        assert persistence.sessions.add_message("session", message("one")) == 1
        timer.join()
        persistence.sessions.delete("session")


def is_busy(client: Redis) -> bool:
    try:
        client.ping()
    except ResponseError as error:
        return "busy" in str(error)
    return False


def test_a_server_that_is_busy_with_a_script_is_waited_for(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    driver = redis_driver(server.url, base="busy", retry_seconds=10)
    with create_persistence(driver) as persistence, server.client() as client:
        saved_session(persistence)
        client.config_set("lua-time-limit", 100)

        def run() -> None:
            with server.client() as raw, pytest.raises(ResponseError):
                raw.eval("while true do end", 0)

        def kill() -> None:
            time.sleep(0.5)
            while script.is_alive():
                with suppress(ResponseError):  # it has ended in the meantime
                    client.script_kill()
                time.sleep(0.05)

        script = threading.Thread(target=run, daemon=True)
        script.start()
        wait_until(lambda: is_busy(client), "a busy server")
        killer = threading.Thread(target=kill, daemon=True)
        killer.start()
        assert persistence.sessions.add_message("session", message("one")) == 1
        killer.join(10)
        script.join(10)
        assert any("BUSY" in record.getMessage() for record in caplog.records)
        persistence.sessions.delete("session")


def test_a_refusal_that_stays_is_unavailable(server: RedisServer) -> None:
    if server.version < 7:
        pytest.skip("NOT TESTED: Redis 6.2 lets scripts write without replicas, and opening warns")
    driver = redis_driver(server.url, base="busy", retry_seconds=0.3)
    with create_persistence(driver) as persistence, server.client() as client:
        saved_session(persistence)
        client.config_set("min-replicas-to-write", 1)
        try:
            with pytest.raises(BackendUnavailableError, match="NOREPLICAS"):
                persistence.sessions.add_message("session", message("one"))
        finally:
            client.config_set("min-replicas-to-write", 0)
        persistence.sessions.delete("session")


def test_a_server_that_became_a_replica_is_left_for_the_one_behind_its_name(
    server: RedisServer,
) -> None:
    """Without a new connection, a name or a proxy would lead to the old primary for ever."""
    with create_persistence(redis_driver(server.url, base="demoted")) as persistence:
        saved_session(persistence)
        with server.client() as client:
            before = {each["id"] for each in server.connections()}
            client.replicaof("127.0.0.1", 1)
            timer = threading.Timer(0.5, lambda: client.replicaof("NO", "ONE"))
            timer.start()
            assert persistence.sessions.add_message("session", message("one")) == 1
            timer.join()
            assert not before & {each["id"] for each in server.connections()}
        persistence.sessions.delete("session")


@pytest.mark.parametrize("cluster", [False, True])
def test_a_batch_may_take_longer_than_the_time_out_of_a_call(
    request: pytest.FixtureRequest, cluster: bool
) -> None:
    """A time-out that all attempts meet would never be acknowledged."""
    server = request.getfixturevalue("redis_cluster_server" if cluster else "server")
    options: dict[str, Any] = {"socket_timeout": 0.3, "retry_seconds": 1, "cluster": cluster}
    with create_persistence(redis_driver(server.url, base="slow", **options)) as persistence:
        saved_session(persistence)
        persistence.sessions.add_message("session", message())
        batch = [message("x" * 2000) for _ in range(2000)]
        for node in server.nodes[:3] if cluster else [server]:
            with node.client() as client:
                client.client_pause(1200)
        started = time.monotonic()
        assert len(persistence.sessions.add_messages("session", batch)) == 2000
        assert time.monotonic() - started > 0.5
        persistence.containers.delete("box")
        persistence.sessions.delete("session")
