"""Servers that are killed, and processes that die between two steps."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from agentx_persistence import (
    BackendUnavailableError,
    Persistence,
    UserMessage,
    create_persistence,
)
from agentx_persistence.redis import redis_driver
from tests.backends.backend import Backend
from tests.backends.redis import connected
from tests.contract.records import image, message, saved_session, session, texts
from tests.servers.redis import RedisServer, redis_binary, start_cluster, start_server

_PATIENCE = 30.0


class Writer(threading.Thread):
    """Adds messages without a pause, as an application that tries again after an error."""

    def __init__(self, persistence: Persistence) -> None:
        super().__init__()
        self._sessions = persistence.sessions
        self._ended = threading.Event()
        self.acknowledged: list[str] = []
        self.errors: list[Exception] = []

    def run(self) -> None:
        while not self._ended.is_set():
            sent = message(str(len(self.acknowledged)))
            self._add(sent)
            self.acknowledged.append(str(sent.content))

    def _add(self, sent: UserMessage) -> None:
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                self._sessions.add_message("session", sent)
                return
            except BackendUnavailableError as error:
                self.errors.append(error)
                if time.monotonic() > deadline:
                    raise

    def wait_for_more(self, count: int = 50) -> None:
        goal, deadline = len(self.acknowledged) + count, time.monotonic() + _PATIENCE
        while len(self.acknowledged) < goal:
            assert self.is_alive()
            assert time.monotonic() < deadline, self.errors[-3:]
            time.sleep(0.01)

    def end(self) -> list[str]:
        self._ended.set()
        self.join(2 * _PATIENCE)
        assert not self.is_alive()
        return self.acknowledged


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = start_server(tmp_path_factory.mktemp("killed"), redis_binary())
    yield server
    server.stop()


def test_a_server_that_is_killed_and_restarted_loses_and_doubles_nothing(
    server: RedisServer,
) -> None:
    assert server.process
    with create_persistence(redis_driver(server.url)) as persistence:
        saved_session(persistence)
        writer = Writer(persistence)
        writer.start()
        for _ in range(3):
            writer.wait_for_more()
            server.process.kill()
            server.process.start()
        writer.wait_for_more()
        acknowledged = writer.end()
        assert texts(persistence) == acknowledged
        assert writer.errors == []


def test_a_server_that_stays_away_is_an_error_in_bounded_time(server: RedisServer) -> None:
    driver = redis_driver(server.url, retry_seconds=1)
    with create_persistence(driver) as persistence:
        saved_session(persistence)
        server.stop()
        for call in (
            lambda: persistence.sessions.add_message("session", message()),
            lambda: persistence.sessions.get_messages("session"),
            lambda: persistence.sessions.find_all(image_id="image"),
            lambda: persistence.sessions.save(session()),
            persistence.ping,
        ):
            started = time.monotonic()
            with pytest.raises(BackendUnavailableError):
                call()
            assert 1 <= time.monotonic() - started < 3
        assert server.process
        server.process.start()
        assert persistence.sessions.add_message("session", message()) == 1


def test_a_master_whose_replica_takes_over_doubles_nothing_and_the_writer_goes_on(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    cluster = start_cluster(tmp_path_factory.mktemp("failover"), redis_binary())
    try:
        with create_persistence(redis_driver(cluster.url, cluster=True)) as persistence:
            saved_session(persistence)
            writer = Writer(persistence)
            writer.start()
            writer.wait_for_more()
            with connected(cluster.url, cluster=True) as client:
                port = client.get_node_from_key("agentx:{session}:messages").port
                replicated = len(writer.acknowledged)
                # What the replica has is all that can outlive its master: the replication is
                # asynchronous. Here we wait for it, so as to know what must be there.
                master = next(n for n in cluster.nodes if n.url.endswith(f":{port}"))
                with master.client() as direct:
                    direct.wait(1, 5000)
            assert master.process
            master.process.kill()
            writer.wait_for_more()
            acknowledged = writer.end()
            history = texts(persistence)
        assert len(set(history)) == len(history)
        assert history[:replicated] == acknowledged[:replicated]
        assert history[-50:] == acknowledged[-50:]
        assert set(history) <= set(acknowledged)
    finally:
        cluster.stop()


class _Died(BaseException):
    """Stands for the end of the process."""


def dying(backend: Backend, after: int) -> Persistence:
    """Open the store for a process that dies after so many calls to Redis."""
    persistence = backend.open()
    connection = cast(Any, persistence.sessions)._store._client
    attempt, left = connection._attempt, [after]

    def counting(*arguments: Any, **options: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise _Died
        return attempt(*arguments, **options)

    connection._attempt = counting
    return persistence


def die_in(backend: Backend, after: int, work: Callable[[Persistence], object]) -> bool:
    """Run the work in a process that dies after so many calls; tell whether it did."""
    with dying(backend, after) as persistence:
        try:
            work(persistence)
        except _Died:
            return True
    return False


def check_found_where_it_is(persistence: Persistence, expected: set[str | None]) -> None:
    """The image has one of the expected names, and is found by that and by nothing else."""
    found = persistence.images.find("i")
    name = found and found.name
    assert name in expected
    everything = [] if found is None else [found]
    assert persistence.images.find_all() == everything
    assert persistence.images.find_all(container_id="box") == everything
    for other in ("old", "new"):
        assert persistence.images.find_all(name=other) == (everything if other == name else [])
        assert persistence.images.find_all(name=other, container_id="box") == (
            everything if other == name else []
        )


def raw_keys(backend: Backend) -> list[bytes]:
    options = {**backend.options}
    base = options.pop("base")
    with connected(*backend.arguments, **options) as client:
        return list(client.scan_iter(f"{base}:*", count=1000))


@pytest.fixture(params=["redis", "redis_cluster"])
def either(request: pytest.FixtureRequest) -> Backend:
    backend: Backend = request.getfixturevalue(f"{request.param}_backend")
    return backend


@pytest.mark.parametrize("created_at", [1, 2], ids=["renamed", "renamed and moved"])
def test_a_save_that_is_interrupted_anywhere_leaves_the_old_or_the_new_record(
    either: Backend, created_at: int
) -> None:
    steps, died = 0, True
    new = image("i", name="new", created_at=created_at)
    while died:
        with either.open() as persistence:
            persistence.images.save(image("i", name="old", created_at=1))
        died = die_in(either, steps, lambda persistence: persistence.images.save(new))
        with either.open() as persistence:
            check_found_where_it_is(persistence, {"old", "new"})
            persistence.images.save(new)
            check_found_where_it_is(persistence, {"new"})
            persistence.containers.delete("box")
        assert raw_keys(either) == []
        steps += 1
    assert steps > 1


def test_a_first_save_that_is_interrupted_anywhere_leaves_all_or_nothing(either: Backend) -> None:
    steps, died = 0, True
    new = image("i", name="new")
    while died:
        died = die_in(either, steps, lambda persistence: persistence.images.save(new))
        with either.open() as persistence:
            check_found_where_it_is(persistence, {None, "new"})
            persistence.images.delete("i")
            check_found_where_it_is(persistence, {None})
        assert raw_keys(either) == []
        steps += 1
    assert steps > 1


def test_a_deletion_that_is_interrupted_anywhere_can_be_repeated(either: Backend) -> None:
    steps, died = 0, True
    while died:
        with either.open() as persistence:
            persistence.images.save(image("i", name="old"))
            saved_session(persistence)
            persistence.sessions.save(session(image_id="i"))
            persistence.sessions.add_message("session", message())
        died = die_in(either, steps, lambda persistence: persistence.containers.delete("box"))
        with either.open() as persistence:
            persistence.containers.delete("box")
        assert raw_keys(either) == []
        steps += 1
    assert steps > 2


def test_a_save_that_a_reader_overtakes_is_not_lost(
    redis_cluster_backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agentx_persistence._redis.scripts import COMMIT

    with redis_cluster_backend.open() as writer, redis_cluster_backend.open() as reader:
        connection = cast(Any, writer.sessions)._store._client
        script, overtaken = connection.script, []

        def read_first(which: object, *arguments: Any) -> Any:
            if which is COMMIT and len(overtaken) < 3:
                overtaken.append(reader.images.find_all(name="new"))
            return script(which, *arguments)

        monkeypatch.setattr(connection, "script", read_first)
        writer.images.save(image("i", name="new"))
        assert overtaken == [[], [], []]
        check_found_where_it_is(reader, {"new"})
        reader.images.delete("i")
    assert raw_keys(redis_cluster_backend) == []


def test_a_record_stays_listed_while_others_rename_it(either: Backend) -> None:
    with either.open() as writer, either.open() as reader:
        writer.images.save(image("i", name="0", created_at=1))
        ended = threading.Event()

        def rename() -> None:
            for number in range(150):
                writer.images.save(image("i", name=f"{number % 5}", created_at=1))
            ended.set()

        thread = threading.Thread(target=rename)
        thread.start()
        seen: set[str | None] = set()
        while not ended.is_set():
            (found,) = reader.images.find_all(container_id="box")
            seen.add(found.name)
        thread.join()
        assert len(seen) > 1
        reader.images.delete("i")
    assert raw_keys(either) == []
