"""For each backend a store on a server of its own, which may be stopped, killed and cut off."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import redis

from agentx_persistence import create_persistence
from tests.backends import galera, postgresql_standby, sentinel
from tests.backends.backend import Backend
from tests.faults import raw_files, raw_mongodb, raw_redis, raw_sql
from tests.faults.raw import Raw
from tests.servers import galera as galera_servers
from tests.servers import group_replication, mariadb, mongodb, mysql, postgresql
from tests.servers import redis as redis_servers
from tests.servers.nodes import Nodes
from tests.servers.postgresql_standby import PostgresqlPair
from tests.servers.process import ServerProcess, server_folder
from tests.servers.redis_nodes import ClusterNodes, SentinelGroup

DATABASE = "agentx"
NAMES = (
    *("memory", "fs", "sqlite", "mysql", "mariadb", "postgresql"),
    *("redis", "valkey", "redis_cluster", "mongodb"),
)
ENGINES = (
    *("galera", "group_replication", "multi_primary", "postgresql_standby", "sentinel"),
    *("redis_nodes", "valkey_nodes"),
)

# A question that changes something, as the server's protocol has it.
_CHANGES = {
    # Statements are sent as text; what a transaction did counts from its COMMIT on.
    "mysql": re.compile(rb"COMMIT|^.{4}\x03(INSERT|UPDATE|DELETE)", re.S),
    # A prepared statement is sent by its name.
    "postgresql": re.compile(rb"COMMIT|INSERT|UPDATE|DELETE|_pg3_"),
    "redis": re.compile(rb"EVALSHA|EVAL|ZADD|ZREM|HDEL"),
    "mongodb": re.compile(rb"insert|update|delete|findAndModify|commitTransaction"),
}

_READERS: dict[str, Callable[[Backend], Raw]] = {
    "fs": raw_files.read,
    "sqlite": raw_sql.read_sqlite,
    "mysql": raw_sql.read_mysql,
    "postgresql": raw_sql.read_postgresql,
    "redis": raw_redis.read,
    "mongodb": raw_mongodb.read,
}


_FAMILIES = {
    **dict.fromkeys(("mariadb", "galera", "group_replication", "multi_primary"), "mysql"),
    **dict.fromkeys(
        ("valkey", "redis_cluster", "sentinel", "redis_nodes", "valkey_nodes"), "redis"
    ),
    **dict.fromkeys(("pgbouncer", "postgresql_standby"), "postgresql"),
}


def family(name: str) -> str:
    return _FAMILIES.get(name, name)


def change_of(name: str) -> re.Pattern[bytes]:
    return _CHANGES[family(name)]


@dataclass
class Lab:
    """:param servers: what can be stopped; none for what has no server
    :param connect: connects to the store's database, as its administrator
    :param deadlocks: tells how many the server has met
    :param limit: what a server is started with so that it takes few connections
    :param nodes: what can be lost, if the store is on several nodes
    :param direct: the store on the node that has everything, where that can change
    """

    backend: Backend
    version: str
    servers: Sequence[ServerProcess] = ()
    limit: tuple[str, ...] = ()
    connect: Callable[[], Any] = field(default=lambda: None)
    deadlocks: Callable[[], int] = field(default=lambda: 0)
    nodes: Nodes | None = None
    direct: Callable[[], Backend] | None = None

    def read(self) -> Raw:
        """Return what is stored, found without the package."""
        direct = self.direct() if self.direct else self.backend
        return _READERS[family(self.backend.name)](direct)

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Return where the servers listen."""
        options, arguments = self.backend.options, self.backend.arguments
        if "port" in options:
            return [(options["host"], options["port"])]
        url = urlsplit(arguments[0])
        if options.get("cluster"):
            with redis.Redis.from_url(arguments[0], decode_responses=True) as client:
                nodes = [node.split("@")[0] for node in client.execute_command("CLUSTER NODES")]
            return [(node.rpartition(":")[0], int(node.rpartition(":")[2])) for node in nodes]
        return [(url.hostname or "localhost", url.port)] if url.port else []


def through(
    backend: Backend, addresses: Sequence[tuple[str, int]], ports: Sequence[int]
) -> Backend:
    """Return the same store, reached by these ports instead of those addresses."""
    ways = {port: way for (_, port), way in zip(addresses, ports, strict=True)}
    options = {**backend.options}
    if "port" in options:
        return replace(
            backend, options={**options, "host": "127.0.0.1", "port": ways[options["port"]]}
        )
    url = urlsplit(backend.arguments[0])
    assert url.port
    way = backend.arguments[0].replace(f"{url.hostname}:{url.port}", f"127.0.0.1:{ways[url.port]}")
    if options.get("cluster"):
        options["address_remap"] = lambda at: ("127.0.0.1", ways.get(at[1], at[1]))
    return replace(backend, arguments=(way,), options=options)


@contextmanager
def open_lab(name: str, folder: Path) -> Any:
    with ExitStack() as closing:
        makers: dict[str, Callable[[], Lab]] = {
            "memory": lambda: Lab(Backend("memory", "agentx_persistence.memory"), ""),
            "fs": lambda: Lab(Backend("fs", "agentx_persistence.fs", (str(folder / "store"),)), ""),
            "sqlite": lambda: _sqlite(folder),
            "mysql": partial(_mysql, "mysql", mysql.start_server, closing),
            "mariadb": partial(_mysql, "mariadb", mariadb.start_server, closing),
            "postgresql": partial(_postgresql, closing),
            "redis": partial(_redis, "redis", redis_servers.redis_binary, closing),
            "valkey": partial(_redis, "valkey", redis_servers.valkey_binary, closing),
            "redis_cluster": partial(_redis_cluster, closing),
            "mongodb": partial(_mongodb, closing),
            **{name: partial(_engine, name, closing) for name in ENGINES},
        }
        yield makers[name]()


def _sqlite(folder: Path) -> Lab:
    backend = Backend("sqlite", "agentx_persistence.sqlite", (str(folder / "agentx.db"),))
    backend.open().close()  # makes the tables
    return Lab(backend, sqlite3.sqlite_version)


def _home(name: str, closing: ExitStack) -> Path:
    return closing.enter_context(server_folder(f"faults-{name}"))


def _mysql(name: str, start: Any, closing: ExitStack) -> Lab:
    server = start(_home(name, closing), durable=True)
    closing.callback(server.stop)
    server.recreate(DATABASE)
    create_persistence(server.driver(DATABASE, migrate=True)).close()
    backend = Backend(name, "agentx_persistence.mysql", options=server.options(DATABASE))
    ((version,),) = server.execute("SELECT version()")
    limit = ("--max-connections=10",)
    count = "SELECT count FROM information_schema.innodb_metrics WHERE name = 'lock_deadlocks'"
    if name == "mariadb":
        count = (
            "SELECT variable_value FROM information_schema.global_status"
            " WHERE variable_name = 'Innodb_deadlocks'"
        )
    return Lab(
        backend,
        version,
        [server.process],
        limit,
        partial(server.connect, DATABASE),
        lambda: int(server.execute(count)[0][0]),
    )


def _postgresql(closing: ExitStack) -> Lab:
    server = postgresql.start_server(_home("postgresql", closing), durable=True)
    closing.callback(server.stop)
    server.recreate(DATABASE)
    create_persistence(server.driver(DATABASE, migrate=True)).close()
    backend = Backend(
        "postgresql", "agentx_persistence.postgresql", options=server.options(DATABASE)
    )
    ((version,),) = server.execute("SHOW server_version")
    assert server.process
    limit = ("-c", "max_connections=10", "-c", "superuser_reserved_connections=0")
    count = "SELECT deadlocks FROM pg_stat_database WHERE datname = %s"
    return Lab(
        backend,
        version,
        [server.process],
        limit,
        partial(server.connect, DATABASE),
        lambda: int(server.execute(count, DATABASE)[0][0]),
    )


def _redis(name: str, binary: Callable[[], Path], closing: ExitStack) -> Lab:
    server = redis_servers.start_server(_home(name, closing), binary())
    closing.callback(server.stop)
    backend = Backend(name, "agentx_persistence.redis", (server.url,), {"base": "faults"})
    assert server.process

    def connect() -> Any:
        client = server.client()
        client.ping()
        return client

    return Lab(backend, _redis_version(server), [server.process], ("--maxclients", "10"), connect)


def _redis_version(server: redis_servers.RedisServer) -> str:
    with server.client() as client:
        info = client.info("server")
    return str(info.get("valkey_version") or info["redis_version"])


def _redis_cluster(closing: ExitStack) -> Lab:
    cluster = redis_servers.start_cluster(_home("cluster", closing), redis_servers.redis_binary())
    closing.callback(cluster.stop)
    backend = Backend(
        "redis_cluster",
        "agentx_persistence.redis",
        (cluster.url,),
        {"base": "faults", "cluster": True},
    )
    masters = cluster.nodes[: len(cluster.nodes) // 2]
    processes = [node.process for node in masters if node.process]
    version = f"{_redis_version(masters[0])}, {len(masters)} masters"
    return Lab(backend, version, processes)


def _mongodb(closing: ExitStack) -> Lab:
    server = mongodb.start_server(_home("mongodb", closing))
    closing.callback(server.stop)
    backend = Backend(
        "mongodb", "agentx_persistence.mongodb", (server.url,), {"database_name": DATABASE}
    )
    with server.connect() as client:
        version = client.server_info()["version"]
    assert server.process
    return Lab(backend, version, [server.process])


def _engine(name: str, closing: ExitStack) -> Lab:
    home = _home(name, closing)
    nodes: Any
    if name == "postgresql_standby":
        nodes = PostgresqlPair(home)
        closing.callback(nodes.stop)
        postgresql_standby.prepare(nodes)
        direct = lambda: postgresql_standby.spread(nodes)  # noqa: E731
        ((version,),) = nodes.servers[0].execute("SHOW server_version")
    elif family(name) == "mysql":
        if name == "galera":
            nodes = galera_servers.start_cluster(home)
        else:
            several = name == "multi_primary"
            nodes = group_replication.start_group(home, several_primaries=several)
        closing.callback(nodes.stop)
        galera.prepare(nodes)
        direct = lambda: galera.spread(name, nodes)  # noqa: E731
        ((version,),) = nodes.servers[0].execute("SELECT version()")
    else:
        binary = redis_servers.valkey_binary if "valkey" in name else redis_servers.redis_binary
        if name == "sentinel":
            # Sentinels can elect two masters, one after the other. What the first one then accepts
            # is lost, unless it refuses to write without a replica.
            guard = {"min_replicas_to_write": 1, "min_replicas_max_lag": 1}
            nodes = SentinelGroup(home, binary(), **guard)
        else:
            nodes = ClusterNodes(home, binary())
        closing.callback(nodes.stop)
        direct = lambda: sentinel.spread(name, nodes, "faults")  # noqa: E731
        servers = nodes.servers if name == "sentinel" else nodes.cluster.nodes
        version = _redis_version(servers[0])
    return Lab(direct(), version, nodes.processes, nodes=nodes, direct=direct)
