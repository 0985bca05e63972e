"""What MySQL Group Replication does that one server does not."""

from __future__ import annotations

import time

import pytest

from agentx_persistence import BackendUnavailableError, create_persistence
from agentx_persistence.mysql import driver_from_url
from tests.backends.backend import Backend, Spread
from tests.contract.records import message, saved_session, texts
from tests.drivers.test_redis_crashes import Writer
from tests.servers.group_replication import ReplicationGroup
from tests.servers.proxy import Proxy


def test_several_hosts_lead_to_the_primary(
    group_replication_nodes: ReplicationGroup, group_replication_backend: Spread
) -> None:
    for url in group_replication_backend.urls:  # each begins with another node
        with create_persistence(
            driver_from_url(url, **group_replication_backend.opening)
        ) as persistence:
            saved_session(persistence)
            persistence.sessions.add_message("session", message())


def test_a_host_that_is_read_only_alone_is_unavailable(
    group_replication_nodes: ReplicationGroup, group_replication_backend: Backend
) -> None:
    secondary = (group_replication_nodes.primary() + 1) % 3
    server = group_replication_nodes.servers[secondary]
    driver = server.driver(group_replication_backend.options["database"], retry_seconds=1)
    with (
        create_persistence(driver) as persistence,
        pytest.raises(BackendUnavailableError, match="1290"),
    ):
        saved_session(persistence)


def test_a_switchover_behind_one_address_costs_only_time(
    group_replication_nodes: ReplicationGroup, group_replication_backend: Backend
) -> None:
    nodes, options = group_replication_nodes, group_replication_backend.options
    old = nodes.servers[nodes.primary()]
    proxy = Proxy("127.0.0.1", old.url.port or 0)
    with (
        proxy.open(),
        create_persistence(old.driver(options["database"], port=proxy.port)) as persistence,
    ):
        saved_session(persistence)
        writer = Writer(persistence)
        writer.start()
        writer.wait_for_more()
        nodes.switch_over()
        proxy.lead_to("127.0.0.1", nodes.servers[nodes.primary()].url.port or 0)
        writer.wait_for_more()
        acknowledged = writer.end()
        assert writer.errors == []
        assert texts(persistence) == acknowledged


def test_without_a_quorum_a_call_is_unavailable_if_its_answer_has_a_bound(
    group_replication_nodes: ReplicationGroup, group_replication_backend: Spread
) -> None:
    url = f"{group_replication_backend.urls[0]}?read_timeout=2&write_timeout=2"
    driver = driver_from_url(url, retry_seconds=2, **group_replication_backend.opening)
    with create_persistence(driver) as persistence:
        saved_session(persistence)
        sent = message("said without a quorum")
        with group_replication_nodes.minority():
            began = time.monotonic()
            with pytest.raises(BackendUnavailableError):
                persistence.sessions.add_message("session", sent)
            assert time.monotonic() - began < 20
        group_replication_nodes.wait()
        assert persistence.sessions.add_message("session", sent) == 1
