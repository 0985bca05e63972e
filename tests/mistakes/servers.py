"""Mistakes that only a server can tell."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

import pytest
from sqlalchemy import make_url

from agentx_persistence import (
    BackendUnavailableError,
    ConfigurationError,
    RecordTooLargeError,
    SchemaError,
    create_persistence,
)
from agentx_persistence._sql import schema
from agentx_persistence.postgresql import postgresql_driver
from agentx_persistence.redis import DataLossWarning, redis_driver
from tests.backends.redis import as_user
from tests.contract.records import message, saved_session
from tests.mistakes.mistake import Mistake, Place, at_a_server, with_fixtures
from tests.servers.postgresql import PostgresqlServer
from tests.servers.redis import RedisServer


def _opened(url: str, options: dict[str, Any], **parts: Any) -> object:
    """Open the URL with another part; its password is `tiger` unless it is that of the server."""
    query = parts.pop("query", None)
    changed = make_url(url).set(**parts)
    if query:
        changed = changed.update_query_string(query)
    return create_persistence(changed.render_as_string(hide_password=False), **options)


def _at(name: str, error: type[Exception], words: str, **parts: Any) -> Mistake:
    return Mistake(at_a_server(name), partial(_opened, **parts), error, words)


@contextmanager
def _with_an_empty_database(request: pytest.FixtureRequest) -> Iterator[tuple[PostgresqlServer]]:
    server: PostgresqlServer = request.getfixturevalue("postgresql_server")
    server.recreate("agentx_empty")
    yield (server,)


def _while_another_migrates(name: str, lock: str) -> Mistake:
    @contextmanager
    def place(request: pytest.FixtureRequest) -> Iterator[tuple[Any, ...]]:
        server = request.getfixturevalue(f"{name}_server")
        server.recreate("agentx_empty")
        with closing(server.connect("agentx_empty")) as other:
            other.cursor().execute(f"SELECT {lock}")
            yield (server,)

    def opened(server: Any) -> object:
        options = {"migrate": True, "opening_timeout": 0.5, "retry_seconds": 0.5}
        return create_persistence(server.new_driver(**server.options("agentx_empty"), **options))

    words = "another process has been migrating for 0 … try again later"
    return Mistake(place, opened, BackendUnavailableError, words)


def _without_tables(server: PostgresqlServer, **options: Any) -> object:
    url = server.url.set(database="agentx_empty", **options)
    return create_persistence(url.render_as_string(hide_password=False), migrate=False)


def _without_tables_at_a_socket(server: PostgresqlServer) -> object:
    ((folder,),) = server.execute("SHOW unix_socket_directories")
    return create_persistence(
        postgresql_driver(
            host=folder,
            port=server.url.port or 5432,
            user=server.url.username,
            password=server.url.password,
            database="agentx_empty",
            migrate=False,
        )
    )


def _redis_set(name: str, value: object) -> Place:
    """With another value of a setting of the server."""

    @contextmanager
    def place(request: pytest.FixtureRequest) -> Iterator[tuple[RedisServer]]:
        server: RedisServer = request.getfixturevalue("redis_with_users")
        with server.client() as client:
            before = client.config_get(name)[name]
            client.config_set(name, value)
            try:
                yield (server,)
            finally:
                client.config_set(name, before)

    return place


def _as_user(user: str, words: str) -> Mistake:
    return Mistake(
        with_fixtures("redis_with_users"),
        lambda server: create_persistence(redis_driver(as_user(server, user))),
        ConfigurationError,
        words,
    )


def _large(server: RedisServer) -> object:
    with create_persistence(redis_driver(server.url, base="large")) as persistence:
        saved_session(persistence)
        try:
            return persistence.sessions.add_message("session", message("x" * 1024 * 1024, id="m"))
        finally:
            assert persistence.sessions.count_messages("session") == 0
            persistence.sessions.delete("session")


def _nowhere(scheme: str) -> Mistake:
    # Nobody listens at this port. A free one can be taken by another server of these tests.
    return Mistake(
        with_fixtures(),
        lambda: create_persistence(f"{scheme}://u:tiger@127.0.0.1:1/0"),
        BackendUnavailableError,
        "127.0.0.1:1",
    )


SERVERS: dict[str, Mistake] = {
    **{
        f"{name}: another process migrates": _while_another_migrates(name, lock)
        for name, lock in (
            ("postgresql", f"pg_advisory_lock({schema._LOCK})"),
            ("mysql", f"GET_LOCK('agentx_{schema._LOCK}', 0)"),
            ("mariadb", f"GET_LOCK('agentx_{schema._LOCK}', 0)"),
        )
    },
    **{
        f"{name}: no database": _at(name, ConfigurationError, "name it in the URL", database="")
        for name in ("mysql", "mariadb")
    },
    "mysql: a wrong password": _at("mysql", ConfigurationError, "password", password="tiger"),
    "mysql: no such user": _at("mysql", ConfigurationError, "check user", username="nobody"),
    "mysql: no such database": _at("mysql", ConfigurationError, "create the dat", database="no"),
    "mysql: an unknown option": _at("mysql", ConfigurationError, "schema", query="schema=public"),
    "mariadb: a wrong password": _at("mariadb", ConfigurationError, "password", password="tiger"),
    "mariadb: no such database": _at("mariadb", ConfigurationError, "create the", database="no"),
    "postgresql: no such role": _at("postgresql", ConfigurationError, "role", username="no"),
    "postgresql: no such database": _at("postgresql", ConfigurationError, "names", database="no"),
    "postgresql: no such schema": _at(
        "postgresql", SchemaError, "schema=nowhere", query="schema=nowhere"
    ),
    "postgresql: a misspelt option in the URL": _at(
        "postgresql", ConfigurationError, "check the options in the URL", query="sslmod=require"
    ),
    "postgresql: missing tables, with a password": Mistake(
        _with_an_empty_database,
        lambda server: _without_tables(server, password="tiger"),
        SchemaError,
        "upgrade 'postgresql … :***@ … /agentx_empty', with the password in place of ***",
    ),
    "postgresql: missing tables, at a socket": Mistake(
        _with_an_empty_database,
        _without_tables_at_a_socket,
        SchemaError,
        "upgrade 'postgresql+psycopg:// … @/agentx_empty?host=%2F … &port=",
    ),
    "redis: a database that is not there": _at(
        "redis", ConfigurationError, "out of range", database="99"
    ),
    "redis: a password where there is none": _at(
        "redis", ConfigurationError, "password", username="nobody", password="tiger"
    ),
    "redis: a wrong password": Mistake(
        _redis_set("requirepass", "lion"),
        lambda server: create_persistence(server.url.replace("//", "//:tiger@")),
        ConfigurationError,
        "invalid username-password pair",
    ),
    "redis: no password": Mistake(
        _redis_set("requirepass", "lion"),
        lambda server: create_persistence(server.url),
        ConfigurationError,
        "Authentication required",
    ),
    "redis: a server as a cluster": _at(
        "redis", ConfigurationError, "open it without cluster=True", drivername="redis+cluster"
    ),
    "redis: a node of a cluster as a server": _at(
        "redis_cluster", ConfigurationError, "cluster=True"
    ),
    "redis: a user without EVALSHA": _as_user(
        "reader", "no permissions to run the 'evalsha' command; allow the keys 'agentx:*' and the"
    ),
    # Before version 8, Redis does not say which command of a script it is.
    "redis: a user without ZADD": _as_user(
        "half", "refuses a command to this user … allow the keys 'agentx:*' and the commands … zadd"
    ),
    "redis: a user of other keys": _as_user(
        "other", "refuses a command to this user … ermissions to access … allow the keys 'agentx:*'"
    ),
    # Without TLS there, the greeting of the secure ones fails.
    **{
        f"redis: {scheme} where there is no TLS": _at(
            "redis",
            BackendUnavailableError,
            "rediss://127.0.0.1:",
            drivername=scheme,
            query="socket_timeout=0.3",
        )
        for scheme in ("rediss", "valkeys")
    },
    "redis: a text larger than the server takes": Mistake(
        _redis_set("proto-max-bulk-len", 1024 * 1024),
        _large,
        RecordTooLargeError,
        "the message 'm' takes … the backend accepts at most 1048576",
    ),
    "redis: a server that evicts": Mistake(
        _redis_set("maxmemory-policy", "allkeys-lfu"),
        lambda server: create_persistence(server.url),
        DataLossWarning,
        "maxmemory-policy is allkeys-lfu, not noeviction",
    ),
    "redis: a server that does not write at once": Mistake(
        _redis_set("appendfsync", "no"),
        lambda server: create_persistence(server.url),
        DataLossWarning,
        "appendfsync is no",
    ),
    **{
        f"{scheme}: a wrong port": _nowhere(scheme)
        for scheme in ("mysql", "postgresql", "redis", "mongodb")
    },
}
