"""What is particular to PostgreSQL."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, Table, bindparam, delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine.interfaces import DBAPICursor as Cursor
from sqlalchemy.sql.dml import Delete, Insert

from agentx_persistence._sql.flavour import Flavour, replacement
from agentx_persistence._sql.postgresql_appending import in_array, rows_of_each
from agentx_persistence.errors import ConfigurationError
from agentx_persistence.storage.kinds import SEPARATOR

# serialization_failure, deadlock_detected, lock_not_available, too_many_connections
_TRANSIENT = {"40001", "40P01", "55P03", "53300"}
_CROWDED = (
    "too many clients",
    "too many connections",
    "connection slots are reserved",
    "starting up",
    "not yet accepting",
)
# read_only_sql_transaction (of a server that became a standby), admin_shutdown, crash_shutdown,
# cannot_connect_now, idle_session_timeout
_LOST = {"25006", "57P01", "57P02", "57P03", "57P05"}
_MISCONFIGURED = {
    "authentication failed": "check user and password",
    "no password supplied": "give the password of the role",
    "not permitted to log in": "let the role log in",
    "does not exist": "check the names of the database and of the role, and create them first",
    "permission denied for database": "let the role connect to the database",
    "pg_hba.conf": "let the server's pg_hba.conf admit the role from this host",
    "invalid connection option": "check the options in the URL and in connect_args",
    "invalid sslmode": "check sslmode",
    "certificate": "check the certificates, sslmode and sslrootcert",
}


class PostgresqlFlavour(Flavour):
    backend = "postgresql"
    shows_deleted_in_snapshots = True
    # PostgreSQL takes a limit that is a parameter for a tenth of the rows. So it plans each page of
    # a large listing anew, which takes longer than reading the page.
    planned_sizes = frozenset({1, 10, 20, 25, 50, 100})

    def begin(self, connection: Any, cursor: Cursor) -> None:
        cursor.execute("BEGIN ISOLATION LEVEL READ COMMITTED")

    def begin_joined(self, connection: Connection) -> None:
        if getattr(connection.connection.driver_connection, "autocommit", False):
            self.refuse_autocommit()

    def upsert(self, table: Table, columns: Collection[str]) -> Insert:
        statement = insert(table)
        return statement.on_conflict_do_update(
            index_elements=list(table.primary_key),
            set_=replacement(table, columns, statement.excluded),
        )

    def among(self, column: ColumnElement[Any], name: str, size: int) -> ColumnElement[bool]:
        # One array is a single parameter: psycopg takes long to place a thousand of them.
        return in_array(column, name)

    def listed(self, name: str, values: Sequence[str]) -> dict[str, Any]:
        return {name: list(values)}

    def rows_among(
        self,
        columns: Sequence[ColumnElement[Any]],
        conditions: Sequence[ColumnElement[bool]],
        column: ColumnElement[Any],
        name: str,
        size: int,
    ) -> Select[Any]:
        if size == 1:
            return select(*columns).where(*conditions, column == bindparam(name))
        return rows_of_each(columns, conditions, column, name)

    def deletion_among(
        self,
        table: Table,
        conditions: Sequence[ColumnElement[bool]],
        column: ColumnElement[Any],
        name: str,
        size: int,
    ) -> Delete:
        keys = [*table.primary_key]
        found = self.rows_among(keys, conditions, column, name, size).subquery("found")
        return delete(table).where(*(key == found.c[key.name] for key in keys))

    def sought(self, name: str, ids: Sequence[str]) -> dict[str, Any]:
        return {name: SEPARATOR.join(ids)}

    def check(self, cursor: Any) -> None:
        cursor.execute(
            "SELECT current_setting('server_encoding'), current_setting('client_encoding')"
        )
        for encoding, what in zip(
            cursor.fetchone(), ("database", "connection's client_encoding"), strict=True
        ):
            if encoding != "UTF8":
                raise ConfigurationError(
                    self.backend, f"the {what} must be in UTF8, not in {encoding}"
                )

    def is_transient(self, error: BaseException) -> bool:
        # https://www.postgresql.org/docs/current/errcodes-appendix.html
        state = _state(error)
        return state in _TRANSIENT or (
            state is None and any(part in str(error) for part in _CROWDED)
        )

    def is_lost(self, error: BaseException) -> bool:
        state, text = _state(error), str(error)
        # psycopg itself, without a state, says that the socket is closed if waiting for the server
        # fails. SQLAlchemy asks the connection, which does not know yet that it is lost.
        return (
            state in _LOST
            or "cached plan must not change" in text
            or (state is None and "connection socket closed" in text)
        )

    def misconfigured(self, error: BaseException) -> str:
        state = _state(error)
        if state in ("28000", "28P01", "42501"):
            return "check user and password, and what is granted to the role"
        if state is not None:
            return ""
        text = str(error)
        return next((hint for part, hint in _MISCONFIGURED.items() if part in text), "")

    def is_missing_table(self, error: BaseException) -> bool:
        return _state(error) == "42P01"  # undefined_table


def _state(error: BaseException) -> str | None:
    """Return the SQLSTATE: ``None`` for what psycopg raises without one, as in connecting, and
    ``""`` for what it has not raised."""
    state: str | None = getattr(error, "sqlstate", "")
    return state
