"""Options of drivers."""

from __future__ import annotations

import math
from functools import partial

from agentx_persistence import (
    BackendUnavailableError,
    ConfigurationError,
    InvalidRecordError,
    create_persistence,
)
from agentx_persistence.fs import fs_driver
from agentx_persistence.mongodb import mongodb_driver
from agentx_persistence.mysql import mysql_driver
from agentx_persistence.postgresql import postgresql_driver
from agentx_persistence.redis import redis_driver
from agentx_persistence.sqlite import sqlite_driver
from tests.mistakes.mistake import Row

OPTIONS: dict[str, Row] = {
    # Options
    "memory: an option": (
        lambda: create_persistence("memory:", size=3),
        ConfigurationError,
        "'size'",
    ),
    "fs: a misspelt option": (
        lambda: create_persistence("file:a", time_out=3),
        ConfigurationError,
        "fs_driver() got an unexpected keyword argument 'time_out'",
    ),
    "sqlite: a misspelt option": (
        lambda: create_persistence("sqlite:///a.db", syncronous="FULL"),
        ConfigurationError,
        "'syncronous'",
    ),
    "postgresql: a misspelt option": (
        lambda: create_persistence("postgresql://h/d", poolsize=3),
        ConfigurationError,
        "'poolsize'",
    ),
    "mysql: a misspelt option": (
        lambda: create_persistence("mysql://h/d", poolsize=3),
        ConfigurationError,
        "'poolsize'",
    ),
    **{
        f"sql: {url!r} as URL": (partial(create_persistence, url), error, words)
        for url, error, words in (
            ("mysql://h/d?read_timeout=-1", ConfigurationError, "read_timeout should be > 0"),
            ("mysql://h/d?local_infile=x", ConfigurationError, "not true/false: 'x'"),
            ("mysql://h/d?ssl_ca=/absent", ConfigurationError, "No such file"),
            ("mysql://h/d?ssl_ca=/dev/null", ConfigurationError, "no certificate"),
            ("mysql://h/d?compress=1", ConfigurationError, "compress and named_pipe"),
            ("mysql://h/d?host=a,b", InvalidRecordError, "is no URL; write mysql://user"),
            ("postgresql://h/d?port=x", ConfigurationError, "non-integer port"),
        )
    },
    "redis: no Retry": (
        lambda: create_persistence("redis://127.0.0.1:1", retry=3),
        ConfigurationError,
        "redis: an option is wrong: 'int' object",
    ),
    "redis: no Retry in the URL": (
        lambda: create_persistence("redis://127.0.0.1:1?retry=3"),
        ConfigurationError,
        "redis: an option is wrong: 'str' object",
    ),
    "redis: a misspelt option": (
        lambda: create_persistence("redis://127.0.0.1:1", soket_timeout=3),
        ConfigurationError,
        "'soket_timeout'",
    ),
    "mongodb: a certificate that is not there": (
        lambda: create_persistence("mongodb://127.0.0.1:1/d?tls=true&tlsCAFile=/absent"),
        ConfigurationError,
        "names and values of the options",
    ),
    "mongodb: a misspelt option": (
        lambda: create_persistence("mongodb://127.0.0.1:1/d", maxPoolsSize=3),
        ConfigurationError,
        "an option is refused by pymongo",
    ),
    "fs: a time as text": (lambda: fs_driver("a", timeout="3"), ConfigurationError, "timeout"),  # type: ignore[arg-type]
    "fs: no time": (lambda: fs_driver("a", timeout=0), ConfigurationError, "timeout"),
    "sqlite: a time as text": (
        lambda: sqlite_driver("a.db", timeout="3"),  # type: ignore[arg-type]
        InvalidRecordError,
        "timeout: must be seconds, not '3'",
    ),
    "sqlite: a setting in small letters": (
        lambda: sqlite_driver("a.db", synchronous="full"),  # type: ignore[arg-type]
        InvalidRecordError,
        "FULL, NORMAL or EXTRA",
    ),
    "sqlite: a text whether to migrate": (
        lambda: sqlite_driver("a.db", migrate="no"),  # type: ignore[arg-type]
        InvalidRecordError,
        "migrate: must be True or False, not 'no'",
    ),
    **{
        f"{driver.__name__}: a text whether to migrate": (
            partial(driver, f"{scheme}://h/d", migrate="false"),
            InvalidRecordError,
            "migrate: must be True or False, not 'false'",
        )
        for scheme, driver in (("postgresql", postgresql_driver), ("mysql", mysql_driver))
    },
    "redis: no connections": (
        lambda: redis_driver("redis://h", max_connections=0),
        InvalidRecordError,
        "max_connections: must be a whole number of at least 1",
    ),
    "postgresql: a number as text": (
        lambda: postgresql_driver("postgresql://h/d", pool_size="5"),  # type: ignore[arg-type]
        InvalidRecordError,
        "pool_size: must be a number",
    ),
    **{
        f"{scheme}: {name}={wrong!r}": (
            partial(driver, f"{scheme}://h/d", **{name: wrong}),
            InvalidRecordError,
            f"{name}: must be a number of at least 0, not {wrong!r}",
        )
        for scheme, driver in (("postgresql", postgresql_driver), ("mysql", mysql_driver))
        for name, wrong in (
            ("opening_timeout", None),
            ("opening_timeout", "60"),
            ("answer_timeout", "60"),
            ("answer_timeout", ""),
            ("answer_timeout", -1),
        )
    },
    "mysql: a client library that there is not": (
        lambda: create_persistence("mysql+mysqlclient://u:tiger@127.0.0.1:1/d"),
        InvalidRecordError,
        "url: mysql+mysqlclient is not installed",
    ),
    "postgresql: a port that is none": (
        lambda: postgresql_driver(host="h", port="pgport", database="d"),  # type: ignore[arg-type]
        InvalidRecordError,
        "port: must be a number",
    ),
    "mysql: no time to connect": (
        lambda: create_persistence(
            mysql_driver("mysql://u:tiger@127.0.0.1:1/d", connect_timeout=0, retry_seconds=0)
        ),
        BackendUnavailableError,
        "Can't connect to MySQL server",
    ),
    "mysql: no limit for anything": (
        lambda: create_persistence(
            mysql_driver(
                "mysql://u:tiger@127.0.0.1:1/d",
                answer_timeout=math.inf,
                connect_timeout=math.inf,  # type: ignore[arg-type]
                retry_seconds=0,
            )
        ),
        BackendUnavailableError,
        "Can't connect to MySQL server",
    ),
    "mysql: a number as text": (
        lambda: mysql_driver("mysql://h/d", lock_timeout="5"),  # type: ignore[arg-type]
        InvalidRecordError,
        "lock_timeout: must be a number",
    ),
    "redis: a time as text": (
        lambda: redis_driver(retry_seconds="5"),  # type: ignore[arg-type]
        InvalidRecordError,
        "retry_seconds: must be seconds",
    ),
    "mongodb: a time as text": (
        lambda: mongodb_driver(patience="5"),  # type: ignore[arg-type]
        InvalidRecordError,
        "patience: must be a positive number",
    ),
}
