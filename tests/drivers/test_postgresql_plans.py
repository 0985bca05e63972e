"""How PostgreSQL plans the pages of listings."""

from __future__ import annotations

from typing import Any

import pytest
from psycopg.sql import SQL, Identifier, Literal

from agentx_persistence.storage import SESSIONS, Query
from tests.contract.records import session
from tests.servers.postgresql import PostgresqlServer

_INSERT = """
INSERT INTO agentx_sessions (
    session_id, container_id, image_id, owners_digest, generation,
    latest, created_at, updated_at, revision, body
)
SELECT {box} || n, {box}, 'image', '', 'x', -n, n * 1000, n * 1000, 'x', '{{}}'
FROM generate_series(1, {number}) n ORDER BY random()
"""


def test_pages_are_planned_only_a_few_times(
    postgresql_backend: Any, postgresql_server: PostgresqlServer
) -> None:
    with postgresql_backend.open() as persistence:
        for number in range(1_000):
            persistence.sessions.save(session(f"s{number}"))
        database = postgresql_backend.options["database"]
        postgresql_server.execute("ANALYZE agentx_sessions", database=database)
        for _ in range(20):
            page = persistence.sessions.find_page(container_id="box", order="active", size=20)
            assert page.next_cursor
            assert len(page.items) == 20
        plans = persistence._storage._database.fetch(
            "SELECT generic_plans, custom_plans FROM pg_prepared_statements"
            " WHERE statement LIKE '%%latest%%LIMIT%%'"
        )
    # psycopg prepares the sixth call. The server plans five of the rest, then keeps a plan.
    assert plans == [(10, 5)]


@pytest.mark.parametrize("order", ["newest", "oldest", "active"])
def test_the_plan_of_small_listings_reads_no_large_one_whole(
    postgresql_backend: Any,
    postgresql_server: PostgresqlServer,
    monkeypatch: pytest.MonkeyPatch,
    order: Any,
) -> None:
    database = postgresql_backend.options["database"]
    small = _INSERT.format(box="'box' || n % 50", number=500)
    postgresql_server.execute(small, database=database)
    postgresql_server.execute("VACUUM ANALYZE agentx_sessions", database=database)
    with postgresql_backend.open() as persistence:
        fetch = persistence._storage._database.fetch
        for number in range(12):
            query = Query(where={"container_id": f"box{number}"}, order=order, limit=20)
            assert len(persistence._storage.find(SESSIONS, query).documents) == 10
        large = _INSERT.format(box="'large'", number=5_000)
        postgresql_server.execute(large, database=database)
        sent: list[Any] = []
        monkeypatch.setattr(
            persistence._storage._database,
            "fetch",
            lambda sql, given: sent.append(given) or fetch(sql, given),
        )
        query = Query(where={"container_id": "large"}, order=order, limit=20)
        assert len(persistence._storage.find(SESSIONS, query).documents) == 20
        ((name,),) = fetch(
            "SELECT name FROM pg_prepared_statements WHERE statement LIKE '%%LIMIT%%'"
        )
        values = SQL(", ").join(map(Literal, sent[0]))
        plan = fetch(SQL("EXPLAIN EXECUTE {}({})").format(Identifier(name), values))
    assert "$1" in str(plan)  # it is the one that was kept
    assert "Index Scan" in str(plan)
    assert "Sort" not in str(plan)
