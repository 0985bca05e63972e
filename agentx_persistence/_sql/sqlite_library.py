"""SQLite's library: which module brings it, and how its transactions begin."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from types import ModuleType
from typing import Any

from sqlalchemy import Connection, Engine, event

from agentx_persistence.errors import ConfigurationError

# The first version with ``RETURNING``.
_NEEDED = (3, 35)


def sqlite_module() -> ModuleType:
    """Return the module whose SQLite is new enough: Python's own, or else `pysqlite3`.

    All connections of this package take the same one. Two libraries in one process would break each
    other's locks
    (https://www.sqlite.org/howtocorrupt.html#_multiple_copies_of_sqlite_linked_into_the_same_application).

    :raises ConfigurationError: if there is none
    """
    found = dict[str, str]()
    for module in _installed():
        if module.sqlite_version_info >= _NEEDED:
            return module
        found[module.__name__] = module.sqlite_version
    versions = ", ".join(f"{name} has {version}" for name, version in found.items())
    raise ConfigurationError(
        "sqlite",
        f"SQLite 3.35 or newer is needed, and {versions or 'Python has none'}; run: pip install"
        " --upgrade pysqlite3",
    )


def _installed() -> Iterator[ModuleType]:
    for name in ("sqlite3", "pysqlite3"):
        with suppress(ImportError):  # a Python can be built without it
            yield import_module(name)


def begin_immediately(engine: Engine) -> None:
    """Make SQLAlchemy's transactions on SQLite real ones, which wait for the lock at their start.

    The module sqlite3 would begin a transaction only before its first change. A transaction that
    reads before it writes can be refused without waiting
    (https://www.sqlite.org/lang_transaction.html).
    """

    @event.listens_for(engine, "connect")
    def _no_implicit_begin(connection: Any, record: object) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
