"""What a row of the table of mistakes says, and where a mistake is made."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from agentx_persistence import SessionRecord, UserMessage
from tests.backends.backend import Backend
from tests.backends.urls import url_of

# How it is called, the class of the error, and the words that the user needs.
Row = tuple[Callable[..., object], type[Exception], str]
# Gives the arguments of the call, and checks afterwards what it has left.
Place = Callable[[pytest.FixtureRequest], AbstractContextManager[tuple[Any, ...]]]

M = UserMessage(id="m", content="x")
S = SessionRecord(session_id="s")


class Mistake(NamedTuple):
    place: Place
    call: Callable[..., object]
    error: type[Exception]
    words: str


@contextmanager
def in_an_empty_folder(request: pytest.FixtureRequest) -> Iterator[tuple[()]]:
    """Nothing is made there."""
    folder: Path = request.getfixturevalue("tmp_path")
    request.getfixturevalue("monkeypatch").chdir(folder)
    yield ()
    assert not list(folder.iterdir())


def with_fixtures(*names: str) -> Place:
    @contextmanager
    def place(request: pytest.FixtureRequest) -> Iterator[tuple[Any, ...]]:
        yield tuple(request.getfixturevalue(name) for name in names)
        gc.collect()  # redis-py leaves the connection open on which it finds no cluster

    return place


def in_a_store(name: str) -> Place:
    """With one session and one message, which stay as they are."""

    @contextmanager
    def place(request: pytest.FixtureRequest) -> Iterator[tuple[Any, ...]]:
        backend: Backend = request.getfixturevalue(f"{name}_backend")
        with backend.open() as persistence:
            persistence.sessions.add_message("s", M, create=S)
            before = persistence.sessions.get("s")
            yield (persistence,)
            assert persistence.sessions.find_all() == [before]
            assert persistence.sessions.get_messages("s") == [M]

    return place


def at_a_server(name: str) -> Place:
    """Gives the URL of an empty store on it, and the options beside the URL."""

    @contextmanager
    def place(request: pytest.FixtureRequest) -> Iterator[tuple[Any, ...]]:
        backend: Backend = request.getfixturevalue(f"{name}_backend")
        yield url_of(backend, name.partition("_")[0])
        gc.collect()  # redis-py leaves the connection open on which it finds no cluster

    return place
