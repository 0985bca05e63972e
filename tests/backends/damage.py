"""How the tests damage what a database server stores."""

from __future__ import annotations


def damage(kind: str, id: str, position: int | None, raw: bytes) -> tuple[str, tuple[object, ...]]:
    """Return the statement, with its parameters, that overwrites a record's text with `raw`.

    :raises UnicodeDecodeError: if it is no text, which no database server would hold
    """
    text = raw.decode()
    if position is not None:
        return (
            "UPDATE messages SET body = %s WHERE session_id = %s AND position = %s",
            (text, id, position),
        )
    return f"UPDATE {kind} SET body = %s WHERE {kind.removesuffix('s')}_id = %s", (text, id)  # noqa: S608


def look_up(kind: str, id: str, position: int | None) -> tuple[str, tuple[object, ...]]:
    """Return the statement, with its parameters, that reads a record's text."""
    if position is not None:
        where = "WHERE session_id = %s AND position = %s"
        return f"SELECT body FROM messages {where}", (id, position)  # noqa: S608
    return f"SELECT body FROM {kind} WHERE {kind.removesuffix('s')}_id = %s", (id,)  # noqa: S608
