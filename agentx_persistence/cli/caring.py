"""``doctor`` and ``prune``."""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Iterator
from typing import Annotated

import typer
from rich.text import Text

from agentx_persistence import transfer
from agentx_persistence.cli import settings
from agentx_persistence.cli.options import (
    Containers,
    DryRun,
    Json,
    Url,
    console,
    echo_json,
    in_a_line,
    opened,
    print_json,
    progress,
)
from agentx_persistence.cli.places import require_existing, unchanging
from agentx_persistence.errors import (
    BackendError,
    BackendUnavailableError,
    ConfigurationError,
    SchemaError,
)
from agentx_persistence.persistence import create_persistence
from agentx_persistence.transfer import Finding
from agentx_persistence.transfer.conversation import date
from agentx_persistence.transfer.reports import counted

_UNITS = {"m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_BACKUP = "restore it from a backup"
_STYLES = {"damage": "bold red", "note": "yellow"}


def doctor(url: Url, as_json: Json = False) -> None:
    """Read a whole store and report what is damaged, missing or dangerous, and what to do.

    No record and no message is changed. Exit status 1 if something is damaged.

    \b
    agentx-persistence doctor sqlite:///agentx.db
    """
    require_existing(url)
    findings = list(_findings(url, quiet=as_json))
    if as_json:
        print_json([finding._asdict() for finding in findings])
    else:
        for finding in findings:
            style = _STYLES[finding.severity]
            console().print(Text(f"{finding.severity}: {in_a_line(finding.what)}", style=style))
            console().print(Text(f"  {in_a_line(finding.where)}\n  {finding.advice}"))
        damages = sum(finding.severity == "damage" for finding in findings)
        typer.echo(f"{counted(damages, 'damages')}, {counted(len(findings) - damages, 'notes')}")
    if any(finding.severity == "damage" for finding in findings):
        raise typer.Exit(1)


def _findings(url: str, *, quiet: bool) -> Iterator[Finding]:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            persistence = create_persistence(url, **unchanging(url))
        except SchemaError as error:
            yield Finding("damage", error.problem, "the tables of the database", error.remedy)
            return
        except (BackendUnavailableError, ConfigurationError):
            raise
        except BackendError as error:
            yield Finding("damage", "the store cannot be opened", str(error), _BACKUP)
            return
    advice = "if a crash must lose no data, change the server's configuration"
    for warning in said:
        yield Finding("note", str(warning.message), "the server's settings", advice)
    yield from settings.findings(url)
    try:
        with persistence, progress(quiet=quiet) as tell:
            yield from transfer.examine(persistence, progress=tell)
    except BackendUnavailableError:
        raise
    except (BackendError, SchemaError) as error:
        what = "the store cannot be read to its end"
        yield Finding("damage", what, str(error), "correct this error, and run doctor again")


def prune(
    url: Url,
    inactive: Annotated[
        str, typer.Option(help="Delete sessions without activity for this long: 90d, 12w, 36h.")
    ],
    containers: Containers = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Delete the conversations without activity for a given time, one by one.

    You can interrupt it and run it again.

    \b
    agentx-persistence prune sqlite:///agentx.db --inactive 90d --dry-run
    agentx-persistence prune redis://localhost --inactive 12w --container guests
    """
    match = re.fullmatch(r"([0-9]{1,9})([mhdw])", inactive)
    if match is None:
        raise typer.BadParameter("write a number and m, h, d or w, such as 90d")
    before = int((time.time() - int(match[1]) * _UNITS[match[2]]) * 1000)
    deleted = 0
    with opened(url) as persistence, progress(quiet=as_json) as tell:
        for session in transfer.prune(
            persistence, before=before, containers=containers, dry_run=dry_run, progress=tell
        ):
            deleted += 1
            if as_json:
                echo_json(session.to_json())
            else:
                facts = f"{session.session_id}  {date(session.updated_at)}  {session.title or ''}"
                typer.echo(in_a_line(facts))
    if not as_json:
        typer.echo(f"{counted(deleted, 'sessions')} {'would be ' if dry_run else ''}deleted")
