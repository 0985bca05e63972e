"""How the tests damage what a database server stores."""

from __future__ import annotations

from agentx_persistence.storage.kinds import split_item_key


def damage(kind: str, id: str, position: int | None, raw: bytes) -> tuple[str, tuple[object, ...]]:
    """Return the statement, with its parameters, that overwrites a record's text with `raw`.

    :raises UnicodeDecodeError: if it is no text, which no database server would hold
    """
    text = raw.decode()
    table, condition, values = _place(kind, id, position)
    return f"UPDATE {table} SET body = %s WHERE {condition}", (text, *values)  # noqa: S608


def look_up(kind: str, id: str, position: int | None) -> tuple[str, tuple[object, ...]]:
    """Return the statement, with its parameters, that reads a record's text."""
    table, condition, values = _place(kind, id, position)
    return f"SELECT body FROM {table} WHERE {condition}", values  # noqa: S608


def _place(kind: str, id: str, position: int | None) -> tuple[str, str, tuple[object, ...]]:
    """Return the table, the condition for the row, and its values."""
    if position is not None:
        return "agentx_messages", "session_id = %s AND position = %s", (id, position)
    if kind == "items":
        # Alone, "key" is a word of MySQL's language.
        condition = "namespace = %s AND agentx_items.key = %s"
        return "agentx_items", condition, split_item_key(id)
    return f"agentx_{kind}", f"{kind.removesuffix('s')}_id = %s", (id,)
