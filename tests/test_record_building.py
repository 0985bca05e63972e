"""What records use of pydantic's internals: each test fails if pydantic changes it."""

from __future__ import annotations

import inspect
import subprocess
import sys
import threading
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter

from agentx_persistence import (
    ImageRecord,
    ItemRecord,
    Message,
    OtherMessage,
    SessionRecord,
    TextPart,
    UserMessage,
)
from agentx_persistence.records import MESSAGES

RECORDS = [ImageRecord, SessionRecord, ItemRecord, UserMessage, OtherMessage, TextPart]

_FIRST_USE = """
import sys, threading
from agentx_persistence import *
from agentx_persistence.records import MESSAGES, SESSIONS, ready
sys.setswitchinterval(1e-6)
uses = [
    lambda: UserMessage(content=[TextPart(text="x")]).to_json(),
    lambda: SessionRecord().to_json(),
    lambda: ready(MESSAGES).validate_json('[{"role":"x","subtype":"x","id":"a"}]')[0].to_json(),
    lambda: ImageRecord.model_validate_json('{"containerId":"c","metadata":{}}').to_json(),
    lambda: ready(SESSIONS).validator.validate_json("[{}]")[0].to_json(),
    lambda: parse_message({"role": "user", "subtype": "user", "content": []}).to_json(),
    lambda: SessionRecord.model_construct(),
    lambda: ItemRecord(namespace=["a"], key="k", value=b"x").to_json(),
]
failed, start = [], threading.Barrier(16)
def run(use):
    start.wait()
    try:
        use()
    except BaseException as error:
        failed.append(repr(error))
threads = [threading.Thread(target=run, args=(uses[n % len(uses)],)) for n in range(16)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(failed)
"""

_FORK = """
import os, threading
from agentx_persistence import SessionRecord
from agentx_persistence.records import _building
from agentx_persistence.records._building import Building
_building._LONGEST = 0.5
held, done = threading.Event(), threading.Event()
def hold():
    with Building.lock:
        held.set()
        done.wait()
thread = threading.Thread(target=hold)
thread.start()
held.wait()
child = os.fork()
if not child:
    SessionRecord(session_id="s")
    os._exit(0)
print(os.waitpid(child, 0)[1])
done.set()
thread.join()
"""


_FORK_IN_PYDANTIC = """
import os, signal, threading, time
from typing import Annotated, Any
from pydantic_core import core_schema
from agentx_persistence import SessionRecord, UserMessage
inside = threading.Event()
class Slow:
    @classmethod
    def __get_pydantic_core_schema__(cls, source, handler):
        inside.set()
        time.sleep(0.5)
        return core_schema.any_schema()
class Own(SessionRecord):
    slow: Annotated[Any, Slow] = None
thread = threading.Thread(target=Own)
thread.start()
inside.wait()
child = os.fork()
if not child:
    signal.alarm(10)
    UserMessage(content="x"), Own()
    os._exit(0)
print(os.waitpid(child, 0)[1])
thread.join()
"""

_LISTS = """
from pydantic import TypeAdapter
from agentx_persistence import create_persistence
from agentx_persistence.records._building import Building
from tests.contract.calls import all_calls
rebuild, alone = TypeAdapter.rebuild, []
def watched(self, **options):
    alone.append(Building.lock._is_owned())
    return rebuild(self, **options)
TypeAdapter.rebuild = watched
with create_persistence("memory:") as persistence:
    for call in all_calls(persistence, "own"):
        call()
print(len(alone) > 4, all(alone))
"""

# Sees whether other threads ran during the first call of `use`, as they do only if it lets them.
_ALONE = """
import sys, threading
from functools import partial
from agentx_persistence import SessionRecord
class Own(SessionRecord):
    note: str = "x"
own = Own()
turns = [0]
def count():
    while True:
        turns[0] += 1
sys.setswitchinterval(1e-3)  # much less than the first of the calls below takes
threading.Thread(target=count, daemon=True).start()
use = partial(Own.__pydantic_serializer__.{use}, own, exclude_unset=True)
look = partial(turns.__getitem__, 0)
# The other thread waits, but gets no turn between these calls, as C code makes all of them.
calls = [partial(sum, range(2_000_000)), look, use, look]
_, before, _, after = list(map(partial.__call__, calls))
print(after - before)
"""
_MISSPELT = """
import builtins, warnings
from agentx_persistence import SessionRecord
from agentx_persistence.records._building import Building
import_, found = builtins.__import__, []
def watched(name, *arguments, **options):
    if not Building.lock._is_owned():
        found.append(name)
    return import_(name, *arguments, **options)
warnings.simplefilter("ignore")
builtins.__import__ = watched
SessionRecord(conatiner_id="x")
print(found)
"""


def _run(program: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


@pytest.mark.parametrize("attempt", range(5))
def test_the_first_use_in_many_threads_works(attempt: int) -> None:
    assert _run(_FIRST_USE) == "[]"


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="there is no fork")
@pytest.mark.parametrize("program", [_FORK, _FORK_IN_PYDANTIC], ids=["too long", "in pydantic"])
def test_a_child_builds_though_a_thread_was_building_when_it_was_forked(program: str) -> None:
    assert _run(program) == "0"


def test_what_reads_lists_is_built_while_no_thread_can_fork() -> None:
    assert _run(_LISTS) == "True True"


@pytest.mark.skipif(
    sys.implementation.name != "cpython" or not getattr(sys, "_is_gil_enabled", lambda: True)(),
    reason="threads take other turns",
)
@pytest.mark.parametrize("use", ["to_json", "to_python"])
def test_no_first_use_lets_another_thread_fork_in_the_middle(use: str) -> None:
    """pydantic-core does at the first use of each of its parts, and holds a lock meanwhile."""
    assert _run(_ALONE.format(use=use)) == "0"


def test_what_is_imported_late_is_imported_while_no_thread_can_fork() -> None:
    """A module that is being imported stays locked in a child."""
    assert _run(_MISSPELT) == "[]"


def test_a_class_is_built_under_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    from agentx_persistence.records._building import Building

    entered: list[threading.Thread | None] = []

    class Lock:
        def acquire(self, timeout: float) -> None:
            assert timeout > 0  # a fork may wait for this thread
            entered.append(threading.current_thread())

        def release(self) -> None:
            entered.append(None)

    monkeypatch.setattr(Building, "lock", Lock())

    class Own(SessionRecord):
        color: str = "red"

    assert not entered
    assert Own().color == "red"
    # Once for the first record, and inside of that once for building its class.
    assert entered == [threading.current_thread()] * 2 + [None] * 2
    assert Own().color == "red"
    assert len(entered) == 4


@pytest.mark.parametrize("record", RECORDS)
def test_the_signature_is_snake_case_before_and_after_the_first_use(record: Any) -> None:
    names = [*record.model_fields, "data"]
    assert list(inspect.signature(record).parameters) == names
    record.model_rebuild(force=True)
    assert list(inspect.signature(record).parameters) == names
    program = (
        "import inspect, agentx_persistence\n"
        f"print(*inspect.signature(agentx_persistence.{record.__name__}).parameters)"
    )
    assert _run(program).split() == names


def test_the_signature_says_what_is_required() -> None:
    class Own(ImageRecord):
        shoe_size: int

    parameters = inspect.signature(Own).parameters
    required = [name for name, p in parameters.items() if p.default is p.empty]
    assert required == ["container_id", "shoe_size", "data"]
    assert all(p.kind is p.KEYWORD_ONLY for name, p in parameters.items() if name != "data")


def test_reading_json_does_not_call_the_constructor_for_each_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(self: object, **data: object) -> None:
        raise AssertionError

    monkeypatch.setattr(UserMessage, "__init__", refuse)
    (message,) = MESSAGES.validate_json(
        '[{"id":"m","role":"user","subtype":"user","content":"x","timestamp":1}]'
    )
    assert type(message) is UserMessage


def test_records_work_inside_of_other_models() -> None:
    class Answer(BaseModel):
        session: SessionRecord
        messages: list[Message]

    answer = Answer(session=SessionRecord(), messages=[UserMessage(content="x")])
    assert Answer.model_validate_json(answer.model_dump_json()) == answer
    assert Answer.model_json_schema()["properties"].keys() == {"session", "messages"}
    schema = TypeAdapter(Message).json_schema(by_alias=True)
    assert "parentId" in schema["$defs"]["UserMessage"]["properties"]


def test_a_class_of_the_callers_own_may_name_a_class_that_follows_in_its_function() -> None:
    class Own(UserMessage):
        mood: Mood

    class Mood(BaseModel):
        name: str

    Own.model_rebuild()
    message = Own(content="x", mood=Mood(name="calm"))
    assert Own.model_validate_json(message.to_json()) == message


def test_a_class_of_the_callers_own_may_name_classes_of_its_own_function() -> None:
    class Mood(BaseModel):
        name: str

    class Own(UserMessage):
        mood: Mood

    message = Own(content="x", mood=Mood(name="calm"))
    assert Own.model_validate_json(message.to_json()) == message


_BESIDE_ANOTHER_HOOK = """
import os, threading

lock = threading.RLock()  # such as the one of `logging`
os.register_at_fork(before=lock.acquire, after_in_parent=lock.release)
from agentx_persistence import UserMessage, create_persistence
from agentx_persistence.records import _building
_building._LONGEST = 1.0  # more than the thread waits before it begins
{before}

held = threading.Event()

def hold_and_use():
    with lock:
        held.set()
        forking.wait(0.5)
        {use}

forking = threading.Event()
thread = threading.Thread(target=hold_and_use)
thread.start()
held.wait()
if not (pid := os.fork()):
    os._exit(0)
os.waitpid(pid, 0)
thread.join()
print("went on")
"""


_OPENED = """
create_persistence()
from agentx_persistence.storage import _forking
_forking._LONGEST = 1.0
"""


@pytest.mark.parametrize(
    ("before", "use"),
    [("", "UserMessage(content='x')"), (_OPENED, "create_persistence()")],
    ids=["building", "opening"],
)
def test_a_fork_and_a_thread_do_not_wait_for_each_other_for_ever(before: str, use: str) -> None:
    """The fork holds the lock of building or opening while it waits in a hook of others."""
    program = _BESIDE_ANOTHER_HOOK.format(before=before, use=use)
    command = [sys.executable, "-W", "ignore", "-c", program]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.stdout, ended.stderr) == ("went on\n", "")
