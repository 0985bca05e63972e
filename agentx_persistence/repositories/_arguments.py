"""Checks of arguments, the same on every backend. They run before anything is read or written."""

from __future__ import annotations

import base64
import os
import random
import time
from collections.abc import Iterator, Mapping
from typing import get_args

from pydantic_core import from_json, to_json

from agentx_persistence.errors import (
    BackendUnavailableError,
    InvalidRecordError,
    RecordConflictError,
)
from agentx_persistence.records import check_id, check_name, id_problem, plain
from agentx_persistence.storage import Order, Place, Storage

_MAX_COUNT = 2**31 - 2  # one more still fits the 32-bit integers of all databases
_MAX_TIME = 2**53


def new_token() -> str:
    """Return a text that no other write has."""
    return os.urandom(8).hex()


def attempts(storage: Storage, noun: str, id: str, seconds: float) -> Iterator[None]:
    """Yield for each attempt at a guarded change, with growing pauses.

    :raises BackendUnavailableError: if other writers kept changing it for `seconds`
    :raises RecordConflictError: in the caller's own transaction, instead of a second attempt
    """
    deadline = time.monotonic() + seconds
    pause = 0.0005
    while True:
        yield
        if storage.joined:
            reason = "others changed it meanwhile; begin your transaction anew"
            raise RecordConflictError(noun, id, reason)
        if time.monotonic() > deadline:
            reason = (
                f"others kept changing {noun} {id!r} for {seconds:g} s; try again later, or raise"
                " contention_timeout"
            )
            raise BackendUnavailableError("repository", reason)
        time.sleep(random.uniform(0, pause))
        pause = min(2 * pause, 0.05)


def check_filters(filters: Mapping[str, str | None]) -> dict[str, str]:
    """Return the filters that were given."""
    given: dict[str, str] = {}
    for field, value in filters.items():
        if value is None:
            continue
        if field == "name":
            given[field] = check_name(value)
        else:
            given[field] = check_id(field.removesuffix("_id"), value)
    return given


def check_count(field: str, value: object, minimum: int = 0) -> None:
    if type(value) is not int or not minimum <= value <= _MAX_COUNT:
        reason = f"must be a whole number from {minimum} to {_MAX_COUNT}"
        raise InvalidRecordError("argument", field, reason)


def check_limit(field: str, value: object) -> None:
    if value is not None:
        check_count(field, value)


def check_time(field: str, value: object) -> None:
    if type(value) is not int or not -_MAX_TIME < value < _MAX_TIME:
        reason = "must be a time in Unix milliseconds, as a whole number"
        raise InvalidRecordError("argument", field, reason)


def check_ids(kind: str, ids: object) -> list[str]:
    """Return the ids of a collection, each once."""
    if isinstance(ids, (str, bytes, type)) or not hasattr(ids, "__iter__"):
        raise InvalidRecordError("argument", "ids", f"must be {kind} ids, not {named(ids)}")
    given = list(ids)
    for id in given:
        if problem := id_problem(id):
            raise InvalidRecordError(kind, "id", problem)
    return list(dict.fromkeys(map(plain, given)))


def check_window(
    session_id: str, first: int | None, last: int | None, after: str | None, before: str | None
) -> tuple[str, str | None, str | None]:
    """Return the ids: that of the session, `after` and `before`."""
    session_id = check_id("session", session_id)
    check_limit("first", first)
    check_limit("last", last)
    if first is not None and last is not None:
        raise InvalidRecordError("argument", "last", "cannot be given together with first")
    for field, message_id in (("after", after), ("before", before)):
        if message_id is not None and (problem := id_problem(message_id)):
            raise InvalidRecordError("argument", field, f"{problem}; give the id of a message")
    return (
        session_id,
        None if after is None else plain(after),
        None if before is None else plain(before),
    )


def encode_cursor(order: Order, place: Place) -> str:
    return base64.urlsafe_b64encode(to_json((order, *place))).decode().rstrip("=")


def decode_cursor(order: Order, cursor: str) -> Place:
    foreign = InvalidRecordError(
        "argument", "cursor", "pass `Page.next_cursor` unchanged, with the order of its page"
    )
    try:
        given, time, key = from_json(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        key.encode()
    except (TypeError, ValueError, AttributeError) as error:
        raise foreign from error
    known = given == order and given in get_args(Order)
    if not known or type(time) is not int or not -_MAX_TIME < time < _MAX_TIME or not key:
        raise foreign
    return Place(time, key)


def named(value: object) -> str:
    """Return what errors call a value of the wrong type."""
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
