"""``copy``, ``compare``, ``export`` and ``import``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.text import Text

from agentx_persistence import transfer
from agentx_persistence.cli.options import (
    Containers,
    DryRun,
    Json,
    console,
    opened,
    print_json,
    progress,
    visible,
)
from agentx_persistence.transfer import Comparison

_SHOWN = 20


def copy(
    source: Annotated[str, typer.Argument(metavar="SRC", help="The store to read.")],
    target: Annotated[str, typer.Argument(metavar="DST", help="The store to write to.")],
    containers: Containers = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Copy a store, with every byte and every time, and compare both at the end.

    Run it again after an interruption: what is there is not written twice. Records of SRC replace
    those of DST with the same id; what only DST has stays. Exit status 1 if both still differ, as
    SRC is being written to.

    \b
    agentx-persistence copy sqlite:///agentx.db postgresql://user@host/agentx
    agentx-persistence copy --dry-run --container user-42 redis://localhost file:///backup
    """
    with (
        opened(source) as a,
        opened(target, makes=True) as b,
        progress(quiet=as_json) as tell,
    ):
        report = transfer.copy(a, b, containers=containers, dry_run=dry_run, progress=tell)
    if as_json:
        print_json({**asdict(report), "complete": report.complete})
    else:
        verb = "would be written" if dry_run else "written"
        kinds = [f"{count} {kind}" for kind, count in report.records.items()]
        written = ", ".join([*kinds, f"{report.messages} messages"])
        typer.echo(f"{written} {verb}; {report.unchanged} records were there already")
        if report.rewritten:
            typer.echo(f"{report.rewritten} histories of the target were replaced")
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


def _print_comparison(found: Comparison) -> None:
    compared = f"{found.records} records and {found.messages} messages compared"
    if found.equal:
        typer.echo(f"{compared}: no difference")
        return
    typer.echo(f"{compared}: {found.count} differences, the first of which are")
    for difference in found.differences[:_SHOWN]:
        console().print(Text(f"  {visible(str(difference))}"))
        if difference.a or difference.b:
            sides = f"    {difference.a[:16] or 'absent'} and {difference.b[:16] or 'absent'}"
            console().print(Text(sides, style="dim"))
