"""A process that appends and saves as fast as it can, and is killed again and again."""

from __future__ import annotations

import os
import random
import signal
import time
from itertools import count
from pathlib import Path

import pytest

from agentx_persistence import Persistence, create_persistence
from agentx_persistence.fs import fs_driver
from tests.contract.records import image, message, saved_session, session
from tests.drivers.killing import exit_status, in_child

KILLS = int(os.environ.get("AGENTX_TEST_KILLS", "5"))

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
    pytest.mark.timeout(300 if KILLS < 50 else 1800),
]


def _work_until_killed(persistence: Persistence, acknowledge: int, turn: int) -> None:
    def done(what: str) -> None:
        os.write(acknowledge, f"{what}\n".encode())

    for number in count():
        name = f"{turn}-{number}"
        persistence.sessions.add_message("session", message(id=name))
        done(f"message {name}")
        persistence.sessions.add_messages("session", [message(id=f"{name}-{n}") for n in range(3)])
        done(f"batch {name}")
        persistence.images.save(image("image", name=name, created_at=number))
        done(f"image {name}")
        persistence.sessions.save(session(note=name))
        persistence.sessions.add_message(saved_session(persistence, "other"), message())
        persistence.sessions.delete("other")


def _kill_at_work(persistence: Persistence, turn: int) -> list[tuple[str, str]]:
    """Return what was acknowledged before the kill."""
    reading, writing = os.pipe()
    pid = in_child(lambda: _work_until_killed(persistence, writing, turn))
    os.close(writing)
    with open(reading, "rb") as acknowledged:
        lines = [acknowledged.readline()]
        time.sleep(random.uniform(0, 0.05))
        os.kill(pid, signal.SIGKILL)
        lines += acknowledged.readlines()
    assert exit_status(pid) == -signal.SIGKILL
    done = [line.decode().split() for line in lines if line.endswith(b"\n")]
    return [(what, name) for what, name in done]


@pytest.mark.parametrize("present", [0, 1_000, 10_000])
def test_killed_at_work_it_has_lost_nothing_that_was_acknowledged(
    tmp_path: Path, present: int
) -> None:
    with create_persistence(fs_driver(tmp_path / "store")) as persistence:
        history = [message(id=f"m{number}") for number in range(present)]
        persistence.sessions.add_messages(saved_session(persistence), history)
        expected = [m.id for m in history]
        names = {"plan"}
        for turn in range(KILLS):
            done = _kill_at_work(persistence, turn)
            stored = [m.id for m in persistence.sessions.get_messages("session")]
            added = stored[len(expected) :]
            assert stored[: len(expected)] == expected
            assert len(set(stored)) == len(stored) == persistence.sessions.count_messages("session")
            told = [
                id
                for what, name in done
                if what != "image"
                for id in ([name] if what == "message" else [f"{name}-{n}" for n in range(3)])
            ]
            # At most one more append was made, of one message or of three.
            assert added[: len(told)] == told
            assert len(added) - len(told) in (0, 1, 3)
            last = message(id=f"after {turn}")
            assert persistence.sessions.add_message("session", last) == len(stored) + 1
            expected = [*stored, last.id]
            if saved := [name for what, name in done if what == "image"]:
                found = persistence.images.get("image")
                names.update(saved)
                assert str(found.name) not in saved[:-1]
                assert persistence.images.find_all() == [found]
                for name in names - {found.name}:
                    assert persistence.images.find_all(name=name) == []
        with create_persistence(fs_driver(tmp_path / "store")) as reopened:
            assert [m.id for m in reopened.sessions.iter_messages("session")] == expected
