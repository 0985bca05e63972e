"""Arguments and options that commands share, and how they open a store and print."""

from __future__ import annotations

import json
import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
from rich.progress import Progress as Bars

from agentx_persistence.cli.places import require_existing, unchanging
from agentx_persistence.cli.schema import VARIABLE
from agentx_persistence.persistence import Persistence, create_persistence
from agentx_persistence.transfer import Progress, Step
from agentx_persistence.transfer.reports import counted

Url = Annotated[
    str, typer.Argument(envvar=VARIABLE, help="The store, such as sqlite:///agentx.db.")
]
Containers = Annotated[
    list[str] | None,
    typer.Option("--container", "-c", help="Only this container; you can give several."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show what would be done, and change nothing.")
]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="List at most this many records.")]

URL_HELP = f"The URL of the store; you can leave it out if {VARIABLE} is set."

# Control characters, which a terminal would obey, as the pictures that Unicode has of them.
_VISIBLE = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"}
_BEYOND_ASCII = re.compile(r"[^\x00-\x7e]")
_VISIBLE |= dict.fromkeys(range(0x7F, 0xA0), 0x2421)


def visible(text: str) -> str:
    """Return the text without what would control a terminal."""
    return text.translate(_VISIBLE).encode("utf-8", "replace").decode()


def in_a_line(text: str) -> str:
    """Return the text visible and without line ends, which could pretend to be another line."""
    return " ".join(visible(text).split("\n"))


def url_and(first: str, second: str | None, other: str) -> tuple[str, str]:
    """Return the URL and what comes after it, where the URL may be left out."""
    url, last = (os.environ.get(VARIABLE), first) if second is None else (first, second)
    if not url:
        raise typer.BadParameter(f"give a URL and {other}, or set {VARIABLE}")
    return url, last


def opened(url: str, *, makes: bool = False) -> Persistence:
    """Open the store.

    :param makes: whether to make a file or folder that does not exist, and to upgrade its tables
    """
    options = {} if makes else unchanging(url)
    if not makes:
        require_existing(url)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        persistence = create_persistence(url, **options)
    for warning in said:
        typer.echo(f"warning: {warning.message}", err=True)
    return persistence


def console(*, errors: bool = False) -> Console:
    # Without a terminal, lines are not wrapped.
    wide = None if (sys.stderr if errors else sys.stdout).isatty() else 10_000
    return Console(stderr=errors, width=wide, highlight=False, soft_wrap=wide is not None)


def print_json(value: Any) -> None:
    echo_json(json.dumps(value, ensure_ascii=False, indent=2))


def echo_json(text: str, *, nl: bool = True) -> None:
    """Print JSON, in ASCII where a terminal could obey characters, or UTF-8 is not understood."""
    if sys.stdout.isatty() or not _is_utf8(sys.stdout.encoding):
        text = _BEYOND_ASCII.sub(lambda found: json.dumps(found[0])[1:-1], text)
    typer.echo(text, nl=nl)


def _is_utf8(encoding: str | None) -> bool:
    return (encoding or "utf-8").lower().replace("-", "") == "utf8"


@contextmanager
def progress(quiet: bool = False) -> Iterator[Progress | None]:
    """Give a callback that shows progress: bars on a terminal, a line for each kind elsewhere."""
    if quiet:
        yield None
    elif sys.stderr.isatty():
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Bars(*columns, console=console(errors=True), transient=True) as bars:
            yield _Bars(bars)
    else:
        lines = _Lines()
        yield lines
        lines.end()


class _Bars:
    def __init__(self, bars: Bars) -> None:
        self._bars, self._tasks = bars, dict[tuple[str, str], TaskID]()

    def __call__(self, step: Step) -> None:
        key = step.phase, step.kind
        if key not in self._tasks:
            self._tasks[key] = self._bars.add_task(f"{step.phase} {step.kind}", total=step.total)
        self._bars.update(self._tasks[key], completed=step.done, total=max(step.total, step.done))


class _Lines:
    def __init__(self) -> None:
        self._last: Step | None = None

    def __call__(self, step: Step) -> None:
        if self._last and (self._last.phase, self._last.kind) != (step.phase, step.kind):
            self.end()
        self._last = step

    def end(self) -> None:
        if self._last:
            phase, kind, done, _, messages = self._last
            come = f"{counted(done, kind)}, {counted(messages, 'messages')}"
            typer.echo(f"{phase}: {come} so far", err=True)
