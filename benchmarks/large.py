"""python -m benchmarks.deletions: large deletions beside a process that appends.

Each backend's own table is filled with two owners alike. One is deleted raw, one through this package.
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agentx_persistence import SessionRecord, UserMessage, create_persistence
from tests.servers import mariadb, mysql, postgresql, redis

MESSAGES = int(sys.argv[2]) if len(sys.argv) > 2 else 2_000_000
SESSIONS = int(sys.argv[3]) if len(sys.argv) > 3 else 1_000_000


def append(url: str, stop: Any, pipe: Any) -> None:
    longest = count = 0
    with create_persistence(url) as persistence:
        persistence.sessions.add_message("busy", UserMessage(content="x" * 500))
        pipe.send("ready")
        while not stop.is_set():
            start = time.perf_counter()
            persistence.sessions.add_message("busy", UserMessage(content="x" * 500))
            longest = max(longest, time.perf_counter() - start)
            count += 1
    pipe.send((count, longest))


@contextmanager
def beside_appends(url: str, what: str) -> Iterator[None]:
    context = multiprocessing.get_context("spawn")
    stop, (ours, theirs) = context.Event(), context.Pipe()
    process = context.Process(target=append, args=(url, stop, theirs))
    process.start()
    ours.recv()
    start = time.perf_counter()
    yield
    took = time.perf_counter() - start
    stop.set()
    count, longest = ours.recv()
    process.join()
    print(f"{what:<40} {took:8.2f} s, {count} appends, longest {longest * 1000:.0f} ms", flush=True)


from agentx_persistence._sql.tables import METADATA
TABLES = METADATA.tables
NUMBERS = {
    "sqlite": "WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM s WHERE n < {0}) SELECT n FROM s",
    "postgresql": "SELECT generate_series(1, {0}) AS n",
    "mariadb": "SELECT seq AS n FROM seq_1_to_{0}",
}


def run_sql(name: str, url: str, connect: Callable[[], Any]) -> None:
    connection = connect()

    def execute(*statements: str) -> None:
        cursor = connection.cursor()
        for statement in statements:
            cursor.execute(statement)
        connection.commit()

    with create_persistence(url, **({} if name == "sqlite" else {"migrate": True})) as persistence:
        p = persistence.sessions
        p.save(SessionRecord(session_id="busy", container_id="b", image_id="b"))
        for id in ("raw", "ours"):
            p.save(SessionRecord(session_id=id, container_id="c-" + id, image_id="b"))
            p.add_message(id, UserMessage(content="x" * 500))
        cursor = connection.cursor()
        def columns(table: str) -> list[str]:
            return [c.name for c in TABLES[table].columns if c.computed is None]
        cat = "CONCAT({0}, {1})" if name == "mariadb" else "{0} || {1}"
        for id in ("raw", "ours"):
            names = columns("agentx_messages")
            values = [("n + 1" if c == "position" else cat.format("'m'", "n") if c == "message_id" else c) for c in names]
            step = 100_000
            for low in range(0, MESSAGES, step):
                vals = [v.replace("n", f"(n + {low})") if "n" in v and v != c else v for v, c in zip(values, names)]
                execute(f"INSERT INTO agentx_messages ({', '.join(names)}) SELECT {', '.join(vals)} FROM agentx_messages, ({NUMBERS[name].format(min(step, MESSAGES - low))}) AS s WHERE session_id = '{id}' AND position = 1")
            execute(f"UPDATE agentx_sessions SET message_count = {MESSAGES + 1} WHERE session_id = '{id}'")
            print("filled messages", id, flush=True)
        print(p.count_messages("ours"))
        with beside_appends(url, f"{name} messages raw"):
            execute("DELETE FROM agentx_messages WHERE session_id = 'raw'", "DELETE FROM agentx_sessions WHERE session_id = 'raw'")
        with beside_appends(url, f"{name} messages ours"):
            assert p.delete("ours")
        cursor.execute("SELECT count(*) FROM agentx_messages WHERE session_id = 'ours'")
        assert cursor.fetchone()[0] == 0
        connection.commit()
        for id in ("raw", "ours"):
            p.save(SessionRecord(session_id=id, container_id="c-" + id, image_id="b"))
            names = columns("agentx_sessions")
            values = [cat.format(f"'{id}'", "n") if c == "session_id" else c for c in names]
            for low in range(0, SESSIONS, step):
                vals = [v.replace(", n", f", (n + {low})").replace("|| n", f"|| (n + {low})") for v in values]
                execute(f"INSERT INTO agentx_sessions ({', '.join(names)}) SELECT {', '.join(vals)} FROM agentx_sessions, ({NUMBERS[name].format(min(step, SESSIONS - low))}) AS s WHERE session_id = '{id}'")
            print("filled sessions", id, flush=True)
        if name == "postgresql":
            execute("COMMIT", "ANALYZE")
        with beside_appends(url, f"{name} sessions raw"):
            execute("DELETE FROM agentx_messages WHERE session_id IN (SELECT session_id FROM agentx_sessions WHERE container_id = 'c-raw')", "DELETE FROM agentx_sessions WHERE container_id = 'c-raw'")
        one = execute
        p.save(SessionRecord(session_id="raw", container_id="c-raw", image_id="b"))
        names = columns("agentx_sessions")
        values = [cat.format("'raw'", "n") if c == "session_id" else c for c in names]
        for low in range(0, SESSIONS, step):
            vals = [v.replace(", n", f", (n + {low})").replace("|| n", f"|| (n + {low})") for v in values]
            execute(f"INSERT INTO agentx_sessions ({', '.join(names)}) SELECT {', '.join(vals)} FROM agentx_sessions, ({NUMBERS[name].format(min(step, SESSIONS - low))}) AS s WHERE session_id = 'raw'")
        with beside_appends(url, f"{name} sessions raw in chunks"):
            while True:
                cursor.execute("SELECT session_id FROM agentx_sessions WHERE container_id = 'c-raw' LIMIT 1000")
                ids = [row[0] for row in cursor.fetchall()]
                marks = ",".join(["?" if name == "sqlite" else "%s"] * len(ids))
                if ids:
                    cursor.execute(f"DELETE FROM agentx_messages WHERE session_id IN ({marks})", ids)
                    cursor.execute(f"DELETE FROM agentx_sessions WHERE session_id IN ({marks})", ids)
                connection.commit()
                if len(ids) < 1000:
                    break
        with beside_appends(url, f"{name} sessions ours"):
            persistence.containers.delete("c-ours")
        cursor.execute("SELECT count(*) FROM agentx_sessions WHERE container_id = 'c-ours'")
        assert cursor.fetchone()[0] == 0
        connection.commit()
    connection.close()


def run_redis(folder: Path) -> None:
    server = redis.start_server(folder, redis.redis_binary())
    try:
        client = server.client()
        port = client.connection_pool.connection_kwargs
        url = f"unix://{port['path']}" if "path" in port else f"redis://{port['host']}:{port['port']}"
        with create_persistence(url) as persistence:
            p = persistence.sessions
            p.save(SessionRecord(session_id="busy", container_id="b", image_id="b"))
            for id in ("raw", "ours"):
                p.save(SessionRecord(session_id=id, container_id="c-" + id, image_id="b"))
            p.add_message("ours", UserMessage(id="first", content="x" * 500))
            for low in range(0, MESSAGES, 1000):
                p.add_messages("ours", [UserMessage(id=f"m{low + n}", content="x" * 500) for n in range(1000)])
            print("filled messages", p.count_messages("ours"), [k for k in client.keys("*ours*")], flush=True)
            with beside_appends(url, "redis messages ours"):
                assert p.delete("ours")
            for id in ("raw", "ours"):
                for n in range(SESSIONS):
                    p.save(SessionRecord(session_id=f"{id}{n}", container_id="c-" + id, image_id="b"))
                print("filled sessions", id, flush=True)
            print(sorted(client.keys("*raw1"))[:10], sorted(client.keys("agentx*c-raw*"))[:5])
            with beside_appends(url, "redis sessions raw"):
                raw_redis(client)
            with beside_appends(url, "redis sessions ours"):
                persistence.containers.delete("c-ours")
            print(client.dbsize())
    finally:
        server.stop()


def raw_redis(client: Any) -> None:
    listing = next(k for k in client.keys("*c-raw*") if client.type(k) in (b"zset", "zset"))
    print(listing)
    ids = []
    while batch := client.zrange(listing, 0, 999):
        keys = client.pipeline(transaction=False)
        for member in batch:
            id = member.decode() if isinstance(member, bytes) else member
            ids.append(id)
            for key in KEYS:
                keys.unlink(key.format(id))
        for index in INDEXES:
            keys.zrem(index, *batch)
        keys.zrem(listing, *batch)
        keys.execute()


KEYS: list[str] = []
INDEXES: list[str] = []


def main() -> None:
    which = sys.argv[1]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if which == "sqlite":
            import sqlite3
            run_sql(which, f"sqlite:///{folder}/a.db", lambda: sqlite3.connect(folder / "a.db", timeout=120))
        elif which == "postgresql":
            server = postgresql.start_server(folder, durable=True)
            try:
                server.recreate("bench")
                run_sql(which, server.url.set(drivername="postgresql", database="bench").render_as_string(False), lambda: server.connect("bench", autocommit=False))
            finally:
                server.stop()
        elif which == "mariadb":
            server = mariadb.start_server(folder, durable=True)
            try:
                server.recreate("bench")
                run_sql(which, server.url.set(drivername="mysql", database="bench").render_as_string(False), lambda: server.connect("bench", autocommit=False))
            finally:
                server.stop()
        else:
            run_redis(folder)


if __name__ == "__main__":
    main()
