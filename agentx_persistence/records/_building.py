"""The classes of records: their rules, building them at their first use, their signatures."""

from __future__ import annotations

import os
from collections.abc import Callable
from threading import RLock
from typing import Any, NamedTuple, TypeVar

from pydantic import TypeAdapter

from agentx_persistence._unlocking import raise_unless_unlocked
from agentx_persistence.records._rehearsal import rehearse

T = TypeVar("T")

# For how many seconds a fork and a thread that builds wait for each other; building takes some
# milliseconds.
_LONGEST = 5.0


class Rules(NamedTuple):
    """What pydantic does not know of a class of records.

    * `kind`: what errors call such a record
    * `generated`: the fields with a default that is part of the record. They are given back even
      when the caller did not set them, while any other field that was absent stays absent
    * `ids`: the fields that hold ids
    * `open_fields`: the fields that this very class declares and that hold any JSON. The others
      hold values of their declared types
    * `foreign`: whether unknown fields belong to another framework, and are not checked for
      misspellings
    * `reader`: the class that reads the stored record. A class of this package reads its own; a
      caller's subclass inherits it. ``None`` means one of the classes of this kind
    """

    kind: str = "record"
    generated: frozenset[str] = frozenset()
    ids: tuple[str, ...] = ()
    open_fields: tuple[str, ...] = ()
    foreign: bool = False
    reader: Any = None


class Building:
    """One lock for building the schemas of all records, and for the first record of each class.

    pydantic before 2.14 builds a class twice if two threads use it first, and the second one takes
    away what the first one is using. Later versions have a lock of their own, and pydantic-core
    takes a lock when it first runs a part of its code. In a child that is forked meanwhile, such a
    lock stays locked. So a fork waits for this lock.
    """

    lock = RLock()

    @classmethod
    def wait(cls) -> None:
        """Before a fork or building, wait until no other thread builds or forks.

        A fork that has this lock may wait, in a hook of other code, for a thread that wants to
        build. So the wait has a limit. After it, a thread goes on without the lock, and its
        `release` raises RuntimeError.
        """
        cls.lock.acquire(timeout=_LONGEST)

    @classmethod
    def alone(cls, work: Callable[[], T]) -> T:
        """Call `work` while no other thread builds or forks."""
        try:
            cls.wait()
            return work()
        finally:
            try:
                cls.lock.release()
            except RuntimeError as error:  # the wait was too long, or interrupted
                raise_unless_unlocked(error)


if hasattr(os, "register_at_fork"):
    # The hooks after a fork are C code in CPython, so no signal handler can prevent them. If the
    # fork has waited too long, Python prints the RuntimeError of the release, and goes on.
    os.register_at_fork(
        before=Building.wait,
        after_in_parent=Building.lock.release,
        after_in_child=Building.lock._at_fork_reinit,  # type: ignore[attr-defined]
    )


rehearse()  # at import, before any thread uses a record


def ready(adapter: TypeAdapter[T]) -> TypeAdapter[T]:
    """Return the adapter, which is built now if this is its first use."""
    if not adapter.pydantic_complete:
        Building.alone(adapter.rebuild)
    return adapter


class SnakeCaseSignature:
    """The `inspect.signature` of a record: its fields in snake_case.

    pydantic's own has the camelCase of the wire form.
    """

    def __get__(self, record: object, owner: Any) -> Any:
        from inspect import Parameter, Signature  # imported late: few ask for a signature

        parameters = [
            Parameter(
                name,
                Parameter.KEYWORD_ONLY,
                annotation=field.annotation,
                default=Parameter.empty if field.is_required() else field.get_default(),
            )
            for name, field in owner.__pydantic_fields__.items()
        ]
        return Signature([*parameters, Parameter("data", Parameter.VAR_KEYWORD, annotation=Any)])
