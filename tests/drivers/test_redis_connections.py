"""How the Redis backend reaches its server, and what it says when it cannot."""

from __future__ import annotations

import gc
import os
import secrets
import socket
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis import RedisCluster as ClusterClient
from redis.sentinel import Sentinel

from agentx_persistence import (
    BackendUnavailableError,
    ConfigurationError,
    InvalidRecordError,
    Persistence,
    create_persistence,
)
from agentx_persistence.redis import DataLossWarning, redis_driver
from tests.contract.records import image, message, saved_session, texts
from tests.servers.process import free_port
from tests.servers.redis import RedisCluster, RedisServer, redis_binary, start_server
from tests.servers.tls import TlsFront

_ONE = {"max_connections": 1}
SECRET = "s3cret-pass"


@pytest.fixture(scope="module")
def spare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server whose settings a test may change."""
    server = start_server(tmp_path_factory.mktemp("spare"), redis_binary())
    with server.client() as client:
        # As on many hosted servers: no look at the settings.
        client.execute_command(
            *("ACL", "SETUSER", "app", "on", f">{SECRET}", "~*", "+@all", "-config", "-info")
        )
    yield server
    server.stop()


@pytest.fixture
def base() -> str:
    return f"test-{secrets.token_hex(6)}"


def use(persistence: Persistence) -> None:
    """Go through all that reads and writes differently."""
    saved_session(persistence)
    persistence.images.save(image("i", name="é"))
    first = message("first é")
    assert persistence.sessions.add_messages("session", [first, message("second")]) == [1, 2]
    assert persistence.sessions.add_message("session", first) == 1
    assert texts(persistence) == ["first é", "second"]
    assert texts(persistence, after=first.id) == texts(persistence, last=1) == ["second"]
    assert persistence.sessions.truncate_after("session", first.id) == 1
    assert [i.name for i in persistence.images.find_all(name="é")] == ["é"]
    assert persistence.images.update_metadata("i", {"a": 1}).metadata is not None
    assert persistence.sessions.delete("session") is True
    assert persistence.images.delete("i") is True


def test_a_unix_socket_works(spare: RedisServer, base: str) -> None:
    assert spare.process
    url = f"unix://{spare.process.log.parent / 'redis.sock'}"
    with create_persistence(redis_driver(url, base=base)) as persistence:
        use(persistence)


def test_tls_is_spoken_and_the_certificate_checked(
    spare: RedisServer, base: str, tmp_path: Path
) -> None:
    with TlsFront(spare.url, tmp_path) as front:
        url = f"rediss://localhost:{front.port}"
        trusting = redis_driver(url, base=base, ssl_ca_certs=str(front.certificate))
        with create_persistence(trusting) as persistence:
            use(persistence)
        with pytest.raises(BackendUnavailableError) as raised:
            create_persistence(redis_driver(url, base=base))
        assert "CERTIFICATE_VERIFY_FAILED" in str(raised.value)
        plain = url.replace("rediss", "redis")
        with pytest.raises(BackendUnavailableError):
            create_persistence(redis_driver(plain, base=base, socket_timeout=0.5))


@pytest.mark.parametrize("options", [{}, {"decode_responses": True}, {"protocol": 2}], ids=str)
def test_a_given_client_is_used_and_not_closed(
    spare: RedisServer, base: str, options: dict[str, Any]
) -> None:
    client = spare.client(single_connection_client=True, **options)
    own = client.client_id()
    with create_persistence(redis_driver(client=client, base=base)) as persistence:
        use(persistence)
    assert client.client_id() == own
    client.close()
    pooled = spare.client()
    create_persistence(redis_driver(client=pooled, base=base)).close()
    assert len(spare.connections()) == 1
    pooled.close()


def test_a_given_cluster_client_is_used_and_not_closed(
    redis_cluster_server: RedisCluster, base: str
) -> None:
    client = ClusterClient.from_url(redis_cluster_server.url, decode_responses=True)
    with create_persistence(redis_driver(client=client, base=base)) as persistence:
        use(persistence)
    assert client.ping(target_nodes=ClusterClient.PRIMARIES)
    client.disconnect_connection_pools()


def test_a_client_and_options_contradict_each_other(spare: RedisServer) -> None:
    for wrong in ({"cluster": True}, {"max_connections": 2}):
        with pytest.raises(InvalidRecordError, match="client"):
            redis_driver(client=Redis(), **wrong)


def test_more_threads_than_connections_wait_for_each_other(spare: RedisServer, base: str) -> None:
    driver = redis_driver(spare.url, base=base, max_connections=2)
    with create_persistence(driver) as persistence:
        saved_session(persistence)
        with ThreadPoolExecutor(12) as threads:
            positions = list(
                threads.map(
                    lambda _: persistence.sessions.add_message("session", message()), range(60)
                )
            )
        assert sorted(positions) == list(range(1, 61))
        assert len(spare.connections()) <= 2


@pytest.mark.parametrize("in_url", [False, True])
def test_nobody_is_overtaken_until_its_patience_is_at_an_end(
    spare: RedisServer, base: str, in_url: bool
) -> None:
    """The others hold the only connection for all of the time that a call is repeated."""
    url, options = (f"{spare.url}?max_connections=1", {}) if in_url else (spare.url, _ONE)
    driver = redis_driver(url, base=base, retry_seconds=0.2, **options)
    with create_persistence(driver) as persistence:
        saved_session(persistence)
        with ThreadPoolExecutor(8) as threads, spare.client() as raw:
            raw.client_pause(500)
            positions = list(
                threads.map(
                    lambda _: persistence.sessions.add_message("session", message()), range(16)
                )
            )
    assert sorted(positions) == list(range(1, 17))


def _unavailable(open: Callable[[], Persistence]) -> BackendUnavailableError:
    started = time.monotonic()
    with pytest.raises(BackendUnavailableError) as raised:
        open()
    assert time.monotonic() - started < 5
    return raised.value


@pytest.mark.parametrize("cluster", [False, True])
def test_a_server_that_is_not_there_is_an_error_within_seconds(cluster: bool) -> None:
    url = f"redis://user:{SECRET}@127.0.0.1:{free_port()}"
    error = _unavailable(lambda: create_persistence(redis_driver(url, cluster=cluster)))
    assert SECRET not in "".join(traceback.format_exception(error))


@pytest.mark.parametrize("cluster", [False, True])
def test_a_server_that_does_not_answer_is_an_error_within_seconds(cluster: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"redis://127.0.0.1:{mute.getsockname()[1]}"
        _unavailable(lambda: create_persistence(redis_driver(url, cluster=cluster)))


def test_sentinels_that_do_not_answer_are_an_error_after_asking_each_once() -> None:
    with ExitStack() as stack:
        mute = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        places = ",".join(f"127.0.0.1:{each.getsockname()[1]}" for each in mute)
        started = time.monotonic()
        with pytest.raises(BackendUnavailableError):
            create_persistence(
                redis_driver(
                    f"redis+sentinel://{places}/main/0", socket_timeout=0.5, retry_seconds=0
                )
            )
        assert 1.4 < time.monotonic() - started < 2


@pytest.mark.parametrize("given", [False, True])
def test_sentinels_that_do_not_answer_are_told_without_their_options(
    given: bool, caplog: pytest.LogCaptureFixture
) -> None:
    options: dict[str, Any] = {"username": "asker", "password": SECRET}
    port = free_port()
    if given:
        sentinel = Sentinel([("127.0.0.1", port)], sentinel_kwargs=options)
        driver = redis_driver(client=sentinel.master_for("main"), retry_seconds=0.1)
    else:
        url = f"redis+sentinel://127.0.0.1:{port}/main"
        driver = redis_driver(url, sentinel_kwargs=options, retry_seconds=0.1)
    with pytest.raises(BackendUnavailableError) as raised:
        create_persistence(driver)
    said = "No master found for 'main'; not all sentinels answer (ConnectionError)"
    assert str(raised.value).endswith(said)
    assert given or said in caplog.text
    shown = caplog.text + "".join(traceback.format_exception(raised.value))
    assert not any(word in shown for word in (SECRET, "asker", "ConnectionPool("))


@pytest.mark.parametrize("login", ["app", "app:", ":p%40ss", "app:p%40ss"])
def test_user_and_password_are_read_in_a_url_of_sentinel_as_in_another_one(login: str) -> None:
    found = []
    for url in (f"redis+sentinel://{login}@h:1/main", f"redis://{login}@h:1"):
        driver: Any = redis_driver(url)
        given = driver.target.connect().connection_pool.connection_kwargs
        found.append((given.get("username"), given.get("password")))
    assert found[0] == found[1]


def test_a_server_that_is_no_cluster_is_an_error_and_leaves_no_connection(
    spare: RedisServer,
) -> None:
    gc.disable()  # it would close what is left open
    try:
        with pytest.raises(ConfigurationError, match="Cluster mode is not enabled"):
            create_persistence(redis_driver(spare.url, cluster=True))
        spare.check_for_leaks()
    finally:
        gc.enable()


def test_a_password_is_never_shown(spare: RedisServer, base: str, caplog: Any) -> None:
    right = spare.url.replace("//", f"//app:{SECRET}@")
    driver = redis_driver(right, base=base)
    with create_persistence(driver) as persistence:
        use(persistence)
        shown = repr(driver) + repr(persistence) + repr(vars(persistence))
    wrong = spare.url.replace("//", f"//app:{SECRET}-wrong@")
    with pytest.raises(ConfigurationError) as refused:
        create_persistence(redis_driver(wrong, base=base))
    shown += "".join(traceback.format_exception(refused.value))
    for url in (f"redis://:{SECRET}/x@host", f"http://:{SECRET}@host", f"redis://h:{SECRET}"):
        with pytest.raises(InvalidRecordError) as raised:
            redis_driver(url)
        assert raised.value.__context__ is None
        shown += str(raised.value)
    assert SECRET not in shown + caplog.text
    assert f"127.0.0.1:{spare.url.rpartition(':')[2]}" in repr(driver)


def test_a_server_that_may_lose_data_is_warned_of(spare: RedisServer, base: str) -> None:
    def warned() -> list[str]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            create_persistence(redis_driver(spare.url, base=base)).close()
        assert all(warning.category is DataLossWarning for warning in caught)
        assert all(warning.filename == __file__ for warning in caught)
        return [str(warning.message) for warning in caught]

    assert warned() == []
    with spare.client() as client:
        try:
            client.config_set("maxmemory-policy", "allkeys-lru")
            (eviction,) = warned()
            assert "maxmemory-policy is allkeys-lru" in eviction
            client.config_set("appendonly", "no")
            assert len(warned()) == 2
            client.config_set("save", "60 1")
            assert warned() == [eviction]
            client.config_set("maxmemory-policy", "noeviction")
            assert warned() == []
        finally:
            client.config_set("save", "")
            client.config_set("appendonly", "yes")
            client.config_set("maxmemory-policy", "noeviction")


def test_a_warning_that_is_an_error_leaves_no_connection(spare: RedisServer, base: str) -> None:
    with spare.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            with pytest.raises(DataLossWarning):
                create_persistence(redis_driver(spare.url, base=base))
        finally:
            client.config_set("maxmemory-policy", "noeviction")
    spare.check_for_leaks()


def test_a_server_that_hides_its_settings_is_no_reason_to_warn(
    spare: RedisServer, base: str
) -> None:
    url = spare.url.replace("//", f"//app:{SECRET}@")
    with create_persistence(redis_driver(url, base=base)) as persistence:
        use(persistence)


@pytest.mark.parametrize("given", [False, True])
def test_a_forked_child_shares_no_connection(spare: RedisServer, base: str, given: bool) -> None:
    client = spare.client()
    driver = redis_driver(client=client, base=base) if given else redis_driver(spare.url, base=base)
    with create_persistence(driver) as persistence:
        saved_session(persistence)
        (parents,) = [each["id"] for each in spare.connections()]
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                position = persistence.sessions.add_message("session", message("child"))
                ids = [each["id"] for each in spare.connections()]
                os.write(writing, f"{position} {len(ids)} {parents in ids}".encode())
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        assert os.read(reading, 100) == b"1 2 True"
        os.close(reading)
        os.close(writing)
        persistence.sessions.add_message("session", message("parent"))
        assert texts(persistence) == ["child", "parent"]
        assert [each["id"] for each in spare.connections()] == [parents]
    client.close()


def test_closing_lets_a_call_finish_and_leaves_no_connection(spare: RedisServer, base: str) -> None:
    persistence = create_persistence(redis_driver(spare.url, base=base))
    saved_session(persistence)
    with spare.client() as client:
        client.execute_command("CLIENT", "PAUSE", "300", "WRITE")
    result: list[object] = []
    call = threading.Thread(
        target=lambda: result.append(persistence.sessions.add_message("session", message()))
    )
    call.start()
    time.sleep(0.1)
    persistence.close()
    call.join()
    assert result == [1]
    spare.check_for_leaks()


def test_the_options_reach_the_client(spare: RedisServer, base: str) -> None:
    driver = redis_driver(spare.url, base=base, client_name="agentx-app", db=3)
    with create_persistence(driver) as persistence:
        use(persistence)
        (connection,) = spare.connections()
    assert (connection["name"], connection["db"]) == ("agentx-app", "3")
