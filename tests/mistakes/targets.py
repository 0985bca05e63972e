"""What is given to open, and paths."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import create_engine

from agentx_persistence import (
    ConfigurationError,
    InvalidRecordError,
    create_persistence,
    memory_driver,
)
from agentx_persistence.fs import fs_driver
from agentx_persistence.sqlite import sqlite_driver
from tests.mistakes.mistake import Row

TARGETS: dict[str, Row] = {
    # The target
    "an empty variable": (lambda: create_persistence(""), ConfigurationError, "write sqlite:///"),
    "a path": (
        lambda: create_persistence("data/a.db"),
        ConfigurationError,
        "write sqlite:///data/a.db",
    ),
    "a Path": (lambda: create_persistence(Path("a.db")), ConfigurationError, "URL or a driver"),  # type: ignore[arg-type]
    "bytes": (lambda: create_persistence(b"memory:"), ConfigurationError, "not bytes"),  # type: ignore[arg-type]
    "an engine": (
        lambda: create_persistence(create_engine("sqlite://")),  # type: ignore[arg-type]
        ConfigurationError,
        "not Engine",
    ),
    "a function": (lambda: create_persistence(memory_driver), ConfigurationError, "not function"),  # type: ignore[arg-type]
    "an unknown scheme": (
        lambda: create_persistence("postgress://u:tiger@h/d"),
        ConfigurationError,
        "'postgress' is unknown; known are file, mariadb, memory, mongodb",
    ),
    "a blank before the URL": (
        lambda: create_persistence(" sqlite:///a.db"),
        ConfigurationError,
        "is no URL",
    ),
    "the end of a line after the URL": (
        lambda: create_persistence("mysql://u:tiger@h/d\n"),
        ConfigurationError,
        "the end of a line, at its start or end",
    ),
    "the scheme of HTTP": (
        lambda: create_persistence("https://u:tiger@h/d"),
        ConfigurationError,
        "the scheme 'https' is unknown; known are",
    ),
    "quotes around the URL": (
        lambda: create_persistence('"postgresql://u:tiger@h/d"'),
        ConfigurationError,
        "is no URL",
    ),
    "a time as text for all": (
        lambda: create_persistence("memory:", contention_timeout="3"),  # type: ignore[arg-type]
        ConfigurationError,
        "contention_timeout must be a number of seconds",
    ),
    "options beside a driver": (
        lambda: create_persistence(memory_driver(), pool_size=3),
        ConfigurationError,
        "give it to the driver",
    ),
    "options of nothing": (lambda: create_persistence(size=3), ConfigurationError, "'size'"),
    # Paths
    "sqlite: a URL as path": (
        lambda: sqlite_driver("sqlite:///a.db"),
        InvalidRecordError,
        "must be a path; give a URL to create_persistence",
    ),
    "sqlite: a URI": (lambda: sqlite_driver("file:x?mode=ro"), InvalidRecordError, "not a URI"),
    "sqlite: nothing": (lambda: sqlite_driver(""), InvalidRecordError, "'data/agentx.db'"),
    "sqlite: bytes": (lambda: sqlite_driver(b"a.db"), InvalidRecordError, "'data/agentx.db'"),  # type: ignore[arg-type]
    "sqlite: NUL": (lambda: sqlite_driver("a\0b"), InvalidRecordError, "'data/agentx.db'"),
    "sqlite: None": (lambda: sqlite_driver(None), InvalidRecordError, "'data/agentx.db'"),  # type: ignore[arg-type]
    "sqlite: a folder": (lambda: sqlite_driver("folder/"), InvalidRecordError, "path of a file"),
    "sqlite: a home folder": (
        lambda: create_persistence("sqlite:///~/a.db"),
        InvalidRecordError,
        "give os.path.expanduser(path)",
    ),
    "sqlite: a device": (
        lambda: create_persistence("sqlite:////dev/null"),
        ConfigurationError,
        "/dev/null: check that the path is that of a file",
    ),
    "sqlite: a name that is too long": (
        lambda: create_persistence(f"sqlite:////tmp/{'a' * 256}"),
        ConfigurationError,
        "File name too long",
    ),
    "sqlite: where no file can be made": (
        lambda: create_persistence("sqlite:////proc/a.db"),
        ConfigurationError,
        "the rights on it and its folder",
    ),
    "sqlite: a URL with two slashes": (
        lambda: create_persistence("sqlite://a.db"),
        ConfigurationError,
        "write sqlite:///file.db",
    ),
    "fs: a URL as path": (
        lambda: fs_driver("file:///a"),
        ConfigurationError,
        "give a URL to create_persistence",
    ),
    "fs: a home folder": (
        lambda: fs_driver("~/a"),
        ConfigurationError,
        "give os.path.expanduser(path)",
    ),
    "fs: where no folder can be made": (
        lambda: create_persistence("file:///proc/a"),
        ConfigurationError,
        "no folder can be made there: '/proc/a'",
    ),
    "fs: a host in the URL": (
        lambda: create_persistence("file://server/share"),
        ConfigurationError,
        "write file:///folder",
    ),
    "fs: nothing": (lambda: fs_driver(""), ConfigurationError, "'data/agentx'"),
    "fs: bytes": (lambda: fs_driver(b"a"), ConfigurationError, "'data/agentx'"),  # type: ignore[arg-type]
    "fs: NUL": (lambda: fs_driver("a\0"), ConfigurationError, "'data/agentx'"),
    "fs: None": (lambda: fs_driver(None), ConfigurationError, "'data/agentx'"),  # type: ignore[arg-type]
}
