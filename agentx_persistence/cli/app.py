"""The commands, and how their errors are reported."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Annotated

import typer

from agentx_persistence.cli import caring, looking, moving, schema
from agentx_persistence.cli.options import Url, visible
from agentx_persistence.cli.streams import Lasting, answered, to_its_end
from agentx_persistence.errors import PersistenceError

app = typer.Typer(
    name="agentx-persistence",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class _Interrupted(BaseException):
    """Ctrl-C. Not a `KeyboardInterrupt`, which typer would turn into the exit status 1."""


def _interrupt(number: int, frame: object) -> None:
    raise _Interrupted


def run(arguments: Sequence[str]) -> int:
    """Run a command; return the exit status. No mistake of a user ends in a traceback."""
    if threading.current_thread() is not threading.main_thread():
        return _run(arguments)
    before = signal.signal(signal.SIGINT, _interrupt)
    try:
        return _run(arguments)
    except _Interrupted:
        said = "interrupted; finished work is kept, and the command can be run again"
        print(said, file=Lasting(sys.stderr, lost=OSError))
        return 130
    finally:
        signal.signal(signal.SIGINT, before)


def _run(arguments: Sequence[str]) -> int:
    urls = [*arguments, os.environ.get(schema.VARIABLE, "")]
    return answered(lambda: _status(arguments), _told, *urls)


def _status(arguments: Sequence[str]) -> int:
    try:
        app(args=list(arguments), prog_name="agentx-persistence")
    except SystemExit as ended:
        if isinstance(ended.__context__, BrokenPipeError):
            return 0  # the reader of the pipe, such as `head`, has seen enough
        return ended.code if isinstance(ended.code, int) else 0
    except PersistenceError as error:
        said = str(error).removeprefix("create_persistence: ")
        print(f"error: {visible(said)}", file=sys.stderr)
        return 2
    except OSError as error:
        return _told(error)
    return 0


def _told(error: OSError) -> int:
    place = f"{error.filename}: " if error.filename else ""
    print(f"error: {visible(f'{place}{error.strerror or error}')}", file=sys.stderr)
    return 2


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(version("agentx-persistence"))
        raise typer.Exit


@app.callback()
def _about(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Look into, copy, import and check stores of AI agents' conversations.

    A URL names a store: sqlite:///agentx.db, file:///folder, postgresql://user@host/database,
    mysql://…, redis://…, mongodb://host/database. Commands that get no URL use the variable
    AGENTX_PERSISTENCE_URL, except copy and compare.

    Exit status: 0 done as asked; 1 stores differ, a store is damaged, or its schema is not current;
    2 an error, such as a wrong option or a server that does not answer; 130 interrupted by Ctrl-C.
    """


@app.command()
@to_its_end
def upgrade(url: Url) -> None:
    """Bring the tables of an SQL database up to date.

    \b
    agentx-persistence upgrade postgresql://user@host/agentx
    """
    raise typer.Exit(schema.upgrade(url))


@app.command()
@to_its_end
def check(url: Url) -> None:
    """Check that a store answers and that its tables are current. Exit status 1 if they are not.

    \b
    agentx-persistence check sqlite:///agentx.db
    """
    raise typer.Exit(schema.check(url))


app.command("list")(looking.list_records)
app.command()(looking.show)
app.command()(looking.stats)
app.command()(to_its_end(moving.copy))
app.command()(to_its_end(moving.compare))
app.command()(moving.export)
app.command("import")(to_its_end(moving.import_records))
app.command()(to_its_end(caring.doctor))
app.command()(to_its_end(caring.prune))
