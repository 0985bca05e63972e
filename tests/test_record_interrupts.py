"""An exception at any moment of the first use leaves records that work."""

from __future__ import annotations

import os
import random
import sys
import threading
from types import FrameType
from typing import Any

import pytest

from agentx_persistence import ImageRecord, ItemRecord, SessionRecord, TextPart, UserMessage
from agentx_persistence.records import MESSAGES, SESSIONS

POINTS = 30


class Interrupt(BaseException):
    pass


def use() -> None:
    UserMessage(content=[TextPart(text="x")]).to_json()
    MESSAGES.validator.validate_json('[{"role":"x","subtype":"x","id":"a"}]')[0].to_json()
    SESSIONS.validator.validate_json("[{}]")[0].model_copy(update={"title": "x"}).to_json()
    ItemRecord(namespace=("a",), key="k", value=b"x").to_json()
    ImageRecord(container_id="c").model_dump_json()
    assert SessionRecord().to_json()


def interrupted(at: int) -> int:
    """Use the records until so many lines have run; return the number of lines that were left."""

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal at
        at -= 1
        if not at:
            sys.settrace(None)
            raise Interrupt
        return trace

    sys.settrace(trace)
    try:
        use()
    except Interrupt:
        pass
    finally:
        sys.settrace(None)
    return at


if __name__ == "__main__":
    # Nothing is built here, so that each child builds everything.
    read, write = os.pipe()
    if not os.fork():
        os.write(write, str(10**9 - interrupted(10**9)).encode())
        os._exit(0)
    lines = int(os.read(read, 100))
    points = random.Random(16)
    for at in (points.randrange(1, lines) for _ in range(POINTS)):
        child = os.fork()
        if not child:
            assert interrupted(at) == 0
            use()
            thread = threading.Thread(target=use, daemon=True)
            thread.start()
            thread.join(20)
            os._exit(thread.is_alive())
        assert os.waitpid(child, 0)[1] == 0, at
    sys.stdout.write("each worked")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_the_first_use_can_be_interrupted_anywhere() -> None:
    import subprocess

    ended = subprocess.run(
        [sys.executable, "-m", "tests.test_record_interrupts"],
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
        cwd=os.path.dirname(os.path.dirname(__file__)),
    )
    assert ended.stdout == "each worked", ended.stderr
