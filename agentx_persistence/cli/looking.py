"""``list``, ``show`` and ``stats``."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from agentx_persistence.cli.options import (
    URL_HELP,
    Containers,
    Json,
    Limit,
    Url,
    console,
    echo_json,
    in_a_line,
    opened,
    print_json,
    progress,
    url_and,
    visible,
)
from agentx_persistence.persistence import Persistence
from agentx_persistence.records import ImageRecord, ItemRecord, Message, SessionRecord
from agentx_persistence.transfer.conversation import (
    Piece,
    date,
    human_size,
    markdown,
    pieces,
)
from agentx_persistence.transfer.counting import Statistics, Tally, statistics

_COLOURS = {"user": "cyan", "assistant": "green", "tool": "yellow", "error": "red"}
_FOLDED = 160
_PREVIEW = 60
# How narrow a column becomes that can be cut off.
_NARROW = 10


class Kind(StrEnum):
    sessions = "sessions"
    containers = "containers"
    images = "images"
    items = "items"


def list_records(
    url: Url,
    kind: Annotated[Kind, typer.Option(help="The kind of records to list.")] = Kind.sessions,
    container: Annotated[
        str | None, typer.Option("--container", "-c", help="Only records of this container.")
    ] = None,
    limit: Limit = 50,
    as_json: Json = False,
) -> None:
    """List conversations, newest first (with --container: last active first), or other records.

    \b
    agentx-persistence list sqlite:///agentx.db
    agentx-persistence list redis://localhost --container user-42
    agentx-persistence list sqlite:///agentx.db --kind items --container user-42 --json
    """
    with opened(url) as persistence:
        if kind is Kind.items and container is None:
            raise typer.BadParameter("items are listed by container: give --container")
        if kind is Kind.containers and container is not None:
            raise typer.BadParameter("a container owns no containers: leave --container out")
        records = _records(persistence, kind, container, limit)
        if as_json:
            print_json([record.model_dump(mode="json") for record in records])
        elif kind is Kind.sessions:
            _print_sessions(persistence, records)
        else:
            _print_records(records)


def _records(persistence: Persistence, kind: Kind, container: str | None, limit: int) -> list[Any]:
    if kind is Kind.containers:
        return persistence.containers.find_all(limit=limit)
    if kind is Kind.images:
        return list(persistence.images.find_all(container_id=container, limit=limit))
    if kind is Kind.items:
        return list(persistence.items.find_all(namespace_prefix=(str(container),), limit=limit))
    order = "active" if container is not None else "newest"
    return list(persistence.sessions.find_all(container_id=container, order=order, limit=limit))


def _print_sessions(persistence: Persistence, sessions: Iterable[SessionRecord]) -> None:
    table = _table("session", "container", "title", "messages", "changed (UTC)", "last message")
    listed = list(sessions)
    summaries = persistence.sessions.summaries([session.session_id for session in listed])
    for session in listed:
        summary = summaries.get(session.session_id)
        last = summary.last_message if summary else None
        preview = " ".join(last.text.split()) if last else ""
        table.add_row(
            _id(session.session_id),
            _cell(session.container_id),
            _cell(session.title or ""),
            str(summary.message_count if summary else 0),
            date(session.updated_at),
            _cell(preview[:_PREVIEW] + "…" * (len(preview) > _PREVIEW)),
        )
    _print_table(console(), table)


def _print_records(records: Iterable[Any]) -> None:
    table = _table("id", "name", "changed (UTC)")
    for record in records:
        if isinstance(record, ItemRecord):
            id, name = "/".join(record.namespace), record.key
        elif isinstance(record, ImageRecord):
            id, name = record.image_id, record.name or ""
        else:
            id, name = record.container_id, ""
        table.add_row(_id(id), _cell(name), date(record.updated_at))
    _print_table(console(), table)


def show(
    first: Annotated[str, typer.Argument(metavar="URL", help=URL_HELP)],
    second: Annotated[
        str | None, typer.Argument(metavar="SESSION", help="The id of the session.")
    ] = None,
    last: Annotated[
        int | None,
        typer.Option("--last", "-n", min=1, help="Only this many of the newest messages."),
    ] = None,
    full: Annotated[bool, typer.Option(help="Show tool calls and their results in full.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
    as_json: Json = False,
) -> None:
    """Show a conversation as readable text.

    \b
    agentx-persistence show sqlite:///agentx.db sess_1f00
    agentx-persistence show sqlite:///agentx.db sess_1f00 --last 10 --full
    agentx-persistence show sqlite:///agentx.db sess_1f00 --markdown > talk.md
    """
    url, session_id = url_and(first, second, "a session")
    with opened(url) as persistence:
        session = persistence.sessions.get(session_id)
        messages: Iterable[Message]
        if last is None:
            messages = persistence.sessions.iter_messages(session_id)
        else:
            messages = persistence.sessions.get_messages(session_id, last=last)
        if as_json:
            _print_wire(session, messages)
        elif as_markdown:
            for text in markdown(session, messages):
                typer.echo(visible(text) if sys.stdout.isatty() else text, nl=False)
        else:
            _print_conversation(console(), session, messages, full)


def _print_wire(session: SessionRecord, messages: Iterable[Message]) -> None:
    echo_json(f'{{"session": {session.to_json()},\n"messages": [', nl=False)
    for number, message in enumerate(messages):
        echo_json(f"{',' if number else ''}\n{message.to_json()}", nl=False)
    echo_json("\n]}")


def _print_conversation(
    screen: Console, session: SessionRecord, messages: Iterable[Message], full: bool
) -> None:
    title = session.title or session.session_id
    screen.print(Text(in_a_line(title), style="bold"))
    facts = f"{session.session_id}, container {session.container_id}, {date(session.created_at)}"
    screen.print(Text(visible(facts), style="dim"))
    for message in messages:
        role = Text(in_a_line(message.role), style=f"bold {_COLOURS.get(message.role, 'magenta')}")
        screen.print()
        screen.print(role, Text(f"{date(message.timestamp)}  {visible(message.id)}", style="dim"))
        for piece in pieces(message):
            screen.print(_shown(piece, full))


def _shown(piece: Piece, full: bool) -> Text:
    label, text = visible(piece.label), visible(piece.text)
    if piece.shape == "text":
        return Text(text)
    if piece.shape == "thinking":
        return Text(text, style="dim italic")
    if piece.shape == "file":
        return Text(f"[{label}, {text}]", style="blue")
    if not full:
        whole = " ".join(text.split())
        text = whole[:_FOLDED] + "…" * (len(whole) > _FOLDED)
    mark = {"call": "→", "result": "←"}.get(piece.shape, "·")
    return Text.assemble((f"{mark} {label} ", "yellow"), (text, "dim"))


def stats(url: Url, containers: Containers = None, as_json: Json = False) -> None:
    """Count records, messages, bytes and tokens, by container, model and day.

    \b
    agentx-persistence stats sqlite:///agentx.db
    agentx-persistence stats postgresql://user@host/agentx --container user-42 --json
    """
    with opened(url) as persistence, progress(quiet=as_json) as tell:
        found = statistics(persistence, containers=containers, progress=tell)
    if as_json:
        print_json(asdict(found))
    else:
        _print_statistics(found)


def _print_statistics(found: Statistics) -> None:
    screen = console()
    counts = f"{found.containers} containers, {found.images} images, {found.items} items"
    screen.print(Text(counts))
    _print_tallies(screen, "", {"everything": found.total})
    for title, tallies in (
        ("container", found.by_container),
        ("model", found.by_model),
        ("day (UTC)", found.by_day),
    ):
        _print_tallies(screen, title, tallies)
    if found.unreadable:
        unreadable = f"unreadable records, messages and histories: {found.unreadable}; run doctor"
        screen.print(Text(unreadable, style="red"))


def _print_tallies(screen: Console, title: str, tallies: dict[str, Tally]) -> None:
    table = _table(title, "sessions", "messages", "size", "input tokens", "output tokens")
    for name, tally in sorted(tallies.items()):
        sums = (tally.sessions or "", tally.messages, human_size(tally.bytes))
        table.add_row(_id(name), *map(str, sums), str(tally.input_tokens), str(tally.output_tokens))
    _print_table(screen, table)


def _print_table(screen: Console, table: Table) -> None:
    """Print a table of which no id, number or time is cut off: a terminal that is too narrow breaks
    its lines."""
    needed = 0
    for column in table.columns:
        longest = max(cell_len(str(cell)) for cell in (column.header, *column.cells))
        needed += 2 + (longest if column.no_wrap else min(longest, _NARROW))
    screen.width = max(screen.width, needed)
    screen.print(table)


def _table(*columns: str) -> Table:
    """Return a table whose first column, the id, is always whole."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        right = column in ("messages", "sessions", "size") or column.endswith("tokens")
        table.add_column(
            column,
            justify="right" if right else "left",
            overflow="fold",
            no_wrap=right or number == 0 or column.endswith("(UTC)"),
        )
    return table


def _id(text: str) -> Text:
    return Text(visible(text))


def _cell(text: str) -> Text:
    return Text(in_a_line(text), no_wrap=True, overflow="ellipsis")
