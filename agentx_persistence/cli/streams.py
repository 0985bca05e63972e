"""The output of a command: passwords are hidden, and the work goes on if its reader goes away."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from functools import wraps
from io import TextIOWrapper
from typing import Any, ParamSpec, TextIO, TypeVar, cast

from agentx_persistence.cli.places import secret_free

P = ParamSpec("P")
T = TypeVar("T")


class Lasting:
    """A stream of text that drops what nobody reads, after its reader went away.

    :param urls: their passwords are hidden in all that is written
    :param lost: the errors after which it drops what it gets
    """

    def __init__(self, stream: TextIO, *urls: str, lost: type[OSError] = BrokenPipeError) -> None:
        self._stream, self._urls, self._lost = stream, urls, lost

    def write(self, text: str) -> int:
        try:
            return self._stream.write(secret_free(text, *self._urls))
        except self._lost:
            drop(self._stream)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except self._lost:
            drop(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def drop(stream: TextIO) -> None:
    """Drop what the stream holds and gets, so that the end of the process raises no error."""
    with open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), stream.fileno())


def answered(run: Callable[[], int], tell: Callable[[OSError], int], *urls: str) -> int:
    """Run a command, even if what it prints cannot be written; return the exit status.

    :param tell: reports an error of the output, and returns the exit status for it
    :param urls: as for `Lasting`
    """
    if sys.stdout is None:  # as ">&-" leaves it
        print("error: the standard output is closed", file=sys.stderr)
        return 2
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - until the process ends
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # what the encoding does not have
    # No error of stderr, such as a full disk, stops the work: it could not be reported.
    with redirect_stderr(cast(TextIO, Lasting(sys.stderr, *urls, lost=OSError))):
        status = run()
        try:
            sys.stdout.flush()
        except OSError as error:
            drop(sys.stdout)
            if isinstance(error, BrokenPipeError) or status:
                return status
            return tell(error)
        return status


def to_its_end(command: Callable[P, T]) -> Callable[P, T]:
    """Run a command to its end, whether or not anybody reads what it prints: it changes a store, or
    its exit status says something."""

    @wraps(command)
    def run(*arguments: P.args, **options: P.kwargs) -> T:
        output = Lasting(sys.stdout)
        with redirect_stdout(cast(TextIO, output)):
            try:
                return command(*arguments, **options)
            finally:
                output.flush()

    return run
