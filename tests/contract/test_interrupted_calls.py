"""Interrupts at points of each writing call, where Python can run a signal handler.

At each point where the backend is code of this package, else at each one in so many.
"""

from __future__ import annotations

import gc
import logging
import os
import random
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest

from agentx_persistence import Persistence, create_persistence
from agentx_persistence.memory import memory_driver
from agentx_persistence.transfer import prune
from tests.backends.backend import Backend
from tests.contract.records import image, message, saved_session, session
from tests.drivers.interrupting import interrupted_at_each_point

# The system closes what an interrupt kept Python from closing by a `with`, and says so.
pytestmark = [
    pytest.mark.usefixtures("collected"),
    pytest.mark.skipif(
        sys.implementation.name == "pypy",
        reason="NOT TESTED: tracing breaks compiled loops of PyPy ('tuple' object is not callable)",
    ),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

# Where all points count: in what these backends consist of.
_OWN = {"memory": "/agentx_persistence/_memory/", "fs": "/agentx_persistence/_fs/"}
# Elsewhere one in so many does, in each run others.
_STEP = int(os.environ.get("AGENTX_TEST_INTERRUPT_STEP", "41"))


@pytest.fixture
def persistence(
    backend: Backend, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Persistence]:
    # A captured record keeps its exception alive, and that the connection that was interrupted. So
    # does pytest's hook for exceptions in finalizers.
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    for name in ("sqlalchemy.pool", "agentx_persistence"):
        caplog.set_level(logging.CRITICAL, name)
    with backend.open() as persistence:
        for id in ("session", "other"):
            persistence.sessions.add_message(saved_session(persistence, id), message("first"))
        for number in range(3):
            persistence.images.save(image(f"image {number}", name="a"))
        yield persistence
    gc.collect()  # closes connections that the tracebacks of interrupts have kept


def _calls(persistence: Persistence) -> dict[str, Callable[[], object]]:
    sessions, images = persistence.sessions, persistence.images
    numbers = count()
    return {
        "append": lambda: sessions.add_messages("session", [message("a"), message("b")]),
        "rewrite": lambda: sessions.rewrite("other", after=None, messages=[message("new")]),
        "rename": lambda: images.save(image("image 1", name="ab"[next(numbers) % 2])),
        "update": lambda: images.update_metadata("image 2", {"key": next(numbers)}),
        "create": lambda: images.save(image(f"new {next(numbers) % 4}", name="b")),
        "delete": lambda: (images.save(image("new", name="b")), images.delete("new")),
        "create a session": lambda: sessions.save(session("new")),
        "fork": lambda: sessions.fork("other", session(f"fork {next(numbers)}")),
        "delete a session": lambda: (sessions.save(session("new")), sessions.delete("new")),
        "prune": lambda: (
            sessions.save(session("new", updated_at=1)),
            [*prune(persistence, before=2)],
        ),
    }


def _check(persistence: Persistence) -> None:
    listed = persistence.images.find_all()
    assert {each.image_id for each in listed} >= {"image 0", "image 1", "image 2"}
    assert [persistence.images.get(each.image_id) for each in listed] == listed
    by_name = [each for name in ("a", "b") for each in persistence.images.find_all(name=name)]
    assert sorted(each.image_id for each in by_name) == sorted(each.image_id for each in listed)
    assert persistence.images.count() == len(listed)
    history = persistence.sessions.get_messages("session")
    assert len({each.id for each in history}) == len(history)
    assert [each.text for each in history] == ["first", *["a", "b"] * (len(history) // 2)]
    assert persistence.sessions.count_messages("other") == 1
    for found in persistence.sessions.find_all():
        assert len(persistence.sessions.get_messages(found.session_id)) == (
            persistence.sessions.count_messages(found.session_id)
        )


@pytest.mark.parametrize("name", _calls(create_persistence(memory_driver())))
def test_interrupts_at_any_point_leave_all_or_nothing_and_no_lock(
    persistence: Persistence, backend: Backend, name: str
) -> None:
    points, kept = 0, None
    place = _OWN.get(backend.name, "/agentx_persistence/")
    step = 1 if backend.name in _OWN else _STEP
    if backend.name == "encrypted_memory":  # whose calls have few points
        step = min(step, 7)
    first = random.randint(1, step)
    again = random.choice([0, 0, 1, 2, 5])
    call = _calls(persistence)[name]
    with ThreadPoolExecutor(1) as another:
        for interrupt in interrupted_at_each_point(
            call, place, first=first, step=step, again=again
        ):
            kept = interrupt or kept  # its traceback keeps the variables of the call alive
            try:
                another.submit(_check, persistence).result(20)
            except Exception as error:
                error.add_note(f"after interrupts at point {first + points * step}, again {again}")
                raise
            points += 1
    _check(persistence)
    assert points > 3
