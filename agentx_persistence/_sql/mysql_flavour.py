"""What is particular to MySQL and MariaDB."""

from __future__ import annotations

import operator
import re
from collections.abc import Collection
from contextlib import suppress
from socket import SHUT_RDWR
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    FromClause,
    Select,
    Table,
    and_,
    func,
    or_,
)
from sqlalchemy.dialects.mysql import insert
from sqlalchemy.engine.interfaces import DBAPICursor as Cursor
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.dml import Insert

from agentx_persistence._sql.flavour import Flavour, replacement
from agentx_persistence.errors import ConfigurationError, RecordTooLargeError

# What a client escapes as two bytes
# (https://dev.mysql.com/doc/c-api/en/mysql-real-escape-string.html).
_ESCAPED = re.compile("[\0\n\r\x1a\"'\\\\]")
# Too many connections (to the server, of a user, of an account), a lock wait that timed out, a
# deadlock (at COMMIT: 1180), a row that changed after the snapshot of a MariaDB transaction, a
# transaction that another node of a group refused.
_TRANSIENT = {1040, 1203, 1226, 1205, 1213, 1180, 1020, 3101}
# A connection that PyMySQL has closed, a server that is shutting down, an unknown command (from a
# Galera node without a quorum), a killed session (two codes), a server that has become read-only
# (two codes).
_LOST = {0, 1053, 1047, 1927, 3169, 1290, 1836}
_RIGHTS = "check user and password, and what is granted to the user"
_MISCONFIGURED: dict[object, str] = {
    **dict.fromkeys((1044, 1045, 1142, 1143, 1227, 1370, 1698), _RIGHTS),
    1046: "name it in the URL: mysql://user:password@host/database",
    1049: "create the database first",
    1102: "check the name of the database",
    1251: "the client library does not support the authentication method of this user",
    2059: "the client library does not support the authentication method of this user",
}
# An upper bound for the length of a statement without its values.
_STATEMENT = 4096


class MysqlFlavour(Flavour):
    backend = "mysql"
    # A listing locks an entry of its index before the row. A save that moves the row locks them in
    # the other order, so that the two would be a deadlock.
    locks_as_it_lists = False
    reads_whole_rows = True
    finds_bounds_by_join = True
    joins_values = True  # PyMySQL decodes each value in Python
    shows_changes_in_snapshots = True
    packet_limit = 0

    def check(self, cursor: Any) -> None:
        cursor.execute(
            "SELECT @@max_allowed_packet, @@character_set_client, @@character_set_results"
        )
        self.packet_limit, *found = cursor.fetchone()
        if found != ["utf8mb4", "utf8mb4"]:
            raise ConfigurationError(
                self.backend,
                f"the connection's character set is {found[0]}; set charset=utf8mb4 in the URL or"
                " in the engine's connect_args",
            )

    # A connection's autocommit mode is changed only if the next use needs the other mode. So a
    # single read takes one round trip, without a COMMIT, and a transaction begins with its first
    # statement, without the round trip of a BEGIN.

    def autocommit(self, connection: Any) -> None:
        _set_autocommit(connection, True)

    def begin(self, connection: Any, cursor: Cursor) -> None:
        _set_autocommit(connection, False)

    def begin_joined(self, connection: Connection) -> None:
        driver: Any = connection.connection.driver_connection
        # PyMySQL and mysqlclient have a method; other client libraries have an attribute.
        known = getattr(driver, "get_autocommit", None)
        if known() if known else driver.autocommit:
            self.refuse_autocommit()

    def cut(self, connection: Any) -> None:
        # PyMySQL's socket stays open for as long as a traceback refers to the file made of it.
        socket = getattr(connection, "_sock", None)
        if socket is not None:
            with suppress(OSError):
                socket.shutdown(SHUT_RDWR)

    def upsert(self, table: Table, columns: Collection[str]) -> Insert:
        statement = insert(table)
        return statement.on_duplicate_key_update(replacement(table, columns, statement.inserted))

    def comes_after(
        self, columns: list[Column[Any]], values: list[ColumnElement[Any]], *, reverse: bool
    ) -> ColumnElement[bool]:
        # For (a, b) > (x, y) MySQL reads the index from its start
        # (https://dev.mysql.com/doc/refman/8.4/en/row-constructor-optimization.html).
        comes = operator.lt if reverse else operator.gt
        after: ColumnElement[bool] = comes(columns[-1], values[-1])
        for column, value in zip(columns[-2::-1], values[-2::-1], strict=True):
            after = or_(comes(column, value), and_(column == value, after))
        return after

    def from_index(self, listing: Select[Any], table: FromClause, index: str) -> Select[Any]:
        # Without this hint, MariaDB reads all rows with the filter's value and skips those before
        # the page, and MySQL reads and sorts a whole session for a few of its messages, if other
        # sessions are short. With it, both start to read at the page.
        for name in ("mysql", "mariadb"):
            listing = listing.with_hint(table, f"FORCE INDEX ({index})", name)
        return listing

    # MySQL has no UPDATE … RETURNING. LAST_INSERT_ID(x) returns x in the answer to the UPDATE
    # (https://dev.mysql.com/doc/refman/8.4/en/information-functions.html).

    def added(self, count: Column[Any], number: ColumnElement[Any]) -> ColumnElement[Any]:
        return func.last_insert_id(count + number)

    def returning_count(self, reserve: Any, count: Column[Any]) -> ClauseElement:
        statement: ClauseElement = reserve
        return statement

    def count_after(self, cursor: Any) -> int | None:
        return cursor.lastrowid if cursor.rowcount else None

    def prepare_many(self, cursor: Any) -> None:
        # PyMySQL and mysqlclient combine rows into statements of up to this length.
        limit = self.packet_limit
        cursor.max_stmt_length = min(getattr(cursor, "max_stmt_length", limit), limit)

    def check_size(self, kind: str, id: str, values: Collection[Any]) -> None:
        texts = [value for value in values if isinstance(value, str)]
        # An upper bound: 4 bytes a character, each of them escaped. Nearly all records are below
        # it, which saves computing their exact size.
        if _STATEMENT + 8 * sum(map(len, texts)) <= self.packet_limit:
            return
        size = _STATEMENT + sum(len(text.encode()) + len(_ESCAPED.findall(text)) for text in texts)
        if size > self.packet_limit:
            raise RecordTooLargeError(kind, id, size, self.packet_limit)

    def is_transient(self, error: BaseException) -> bool:
        # https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html
        return _code(error) in _TRANSIENT

    def is_undone(self, error: BaseException) -> bool:
        # COMMIT raises 1180 after a deadlock between nodes, which undoes the transaction, but also
        # when a node loses contact with the others, after which the outcome is unknown.
        return self.is_transient(error) and (_code(error) != 1180 or "deadlock" in str(error))

    def is_lost(self, error: BaseException) -> bool:
        return _code(error) in _LOST

    def misconfigured(self, error: BaseException) -> str:
        return _MISCONFIGURED.get(_code(error), "")

    def is_missing_table(self, error: BaseException) -> bool:
        return _code(error) == 1146  # ER_NO_SUCH_TABLE


def _set_autocommit(connection: Any, value: bool) -> None:
    if callable(connection.autocommit):
        connection.autocommit(value)  # PyMySQL and mysqlclient send nothing if the mode is the same
    elif connection.autocommit != value:
        connection.autocommit = value


def _code(error: BaseException) -> object:
    return error.args[0] if error.args else None
