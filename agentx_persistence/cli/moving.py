"""``copy``, ``compare``, ``export`` and ``import``."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from agentx_persistence import transfer
from agentx_persistence.cli.options import (
    URL_HELP,
    Containers,
    DryRun,
    Json,
    Url,
    console,
    in_a_line,
    opened,
    print_json,
    progress,
    url_and,
)
from agentx_persistence.cli.places import exists
from agentx_persistence.transfer import Comparison
from agentx_persistence.transfer.reports import counted

_SHOWN = 20


class Source(StrEnum):
    agentx_persistence = "agentx-persistence"
    agentx = "agentx"
    openai_agents = "openai-agents"
    langchain = "langchain"


def copy(
    source: Annotated[str, typer.Argument(metavar="SRC", help="The store to read.")],
    target: Annotated[str, typer.Argument(metavar="DST", help="The store to write to.")],
    containers: Containers = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Copy a store, with every byte and every timestamp, and compare both stores at the end.

    Run it again after an interruption: nothing is written twice. Records of SRC replace those of
    DST with the same id; records that only DST has are kept. Exit status 1 if the stores still
    differ, for example because other processes write to SRC.

    \b
    agentx-persistence copy sqlite:///agentx.db postgresql://user@host/agentx
    agentx-persistence copy --dry-run --container user-42 redis://localhost file:///backup
    """
    with (
        opened(source) as a,
        opened("memory:" if dry_run and not exists(target) else target, makes=not dry_run) as b,
        progress(quiet=as_json) as tell,
    ):
        report = transfer.copy(a, b, containers=containers, dry_run=dry_run, progress=tell)
    if as_json:
        print_json({**asdict(report), "complete": report.complete})
    else:
        verb = "would be written" if dry_run else "written"
        typer.echo(
            f"{_written(report)} {verb}; already there: {counted(report.unchanged, 'records')}"
        )
        if report.rewritten:
            typer.echo(f"histories of the target that were replaced: {report.rewritten}")
        if report.comparison:
            _print_comparison(report.comparison)
    if not dry_run and not report.complete:
        raise typer.Exit(1)


def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="A store.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Another store.")],
    containers: Containers = None,
    as_json: Json = False,
) -> None:
    """Compare two stores byte by byte. Exit status 1 if they differ.

    \b
    agentx-persistence compare sqlite:///agentx.db postgresql://user@host/agentx
    """
    with opened(first) as a, opened(second) as b, progress(quiet=as_json) as tell:
        found = transfer.compare(a, b, containers=containers, progress=tell)
    if as_json:
        differences = [difference._asdict() for difference in found.differences]
        print_json({**asdict(found), "equal": found.equal, "differences": differences})
    else:
        _print_comparison(found)
    if not found.equal:
        raise typer.Exit(1)


def export(
    first: Annotated[str, typer.Argument(metavar="URL", help=URL_HELP)],
    second: Annotated[str | None, typer.Argument(metavar="FILE", help="The file to write.")] = None,
    containers: Containers = None,
    since: Annotated[
        datetime | None, typer.Option(help="Only what was changed since this time, in UTC.")
    ] = None,
) -> None:
    """Write a store to a file: JSON Lines, or Markdown if its name ends with .md.

    The file is compressed if its name ends with .gz. `import` reads JSON Lines again.

    \b
    agentx-persistence export sqlite:///agentx.db agentx.jsonl.gz
    agentx-persistence export sqlite:///agentx.db user-42.md --container user-42 --since 2026-01-31
    """
    url, file = url_and(first, second, "a file")
    at = int(since.replace(tzinfo=UTC).timestamp() * 1000) if since else None
    try:
        with opened(url) as persistence, progress() as tell:
            messages = transfer.export(
                persistence, file, containers=containers, since=at, progress=tell
            )
    except BrokenPipeError:
        typer.echo(f"error: {file}: the reader closed it before the end of the export", err=True)
        raise typer.Exit(2) from None
    # A pipe, such as /dev/stdout, has the export in it.
    typer.echo(f"{file}: {counted(messages, 'messages')}", err=not Path(file).is_file())


def import_records(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="The file or the other store to read.")
    ],
    url: Url,
    kind: Annotated[
        Source, typer.Option("--from", help="The program that wrote SOURCE.")
    ] = Source.agentx_persistence,
    keys: Annotated[
        bool, typer.Option("--keys", help="Also copy the API keys of providers (from agentx).")
    ] = False,
    as_json: Json = False,
) -> None:
    """Import a file that `export` wrote, or another program's store, into a store.

    A second import of the same source writes nothing.

    \b
    agentx-persistence import agentx.jsonl.gz sqlite:///agentx.db
    agentx-persistence import --from agentx ~/.agentx/agentx.db sqlite:///new.db
    agentx-persistence import --from openai-agents conversations.db sqlite:///new.db
    """
    if "://" not in source:
        found = Path(source).stat()  # raises before a store is made
        if kind is Source.agentx_persistence and stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), source)
    with opened(url, makes=True) as persistence, progress(quiet=as_json) as tell:
        if kind is Source.agentx_persistence:
            report = transfer.import_file(source, persistence, progress=tell)
        else:
            report = transfer.import_foreign(
                kind.value, source, persistence, keys=keys, progress=tell
            )
    if as_json:
        print_json(asdict(report))
        return
    there = counted(report.unchanged, "records")
    typer.echo(f"{_written(report)} written; already there: {there}")
    for reason in report.skipped:
        console().print(Text(f"skipped: {in_a_line(reason)}"))
    for note in report.notes:
        console().print(Text(f"note: {in_a_line(note)}"))


def _written(report: transfer.CopyReport | transfer.ImportReport) -> str:
    kinds = [counted(count, kind) for kind, count in report.records.items()]
    return ", ".join([*kinds, counted(report.messages, "messages")])


def _print_comparison(found: Comparison) -> None:
    records, messages = counted(found.records, "records"), counted(found.messages, "messages")
    compared = f"{records} and {messages} compared"
    if found.equal:
        typer.echo(f"{compared}: no difference")
        return
    first = f", of which these are the first {_SHOWN}" if found.count > _SHOWN else ""
    typer.echo(f"{compared}: {counted(found.count, 'differences')}{first}")
    for difference in found.differences[:_SHOWN]:
        console().print(Text(f"  {in_a_line(str(difference))}"))
        if difference.a or difference.b:
            sides = f"    {difference.a[:16] or 'absent'} and {difference.b[:16] or 'absent'}"
            console().print(Text(sides, style="dim"))
