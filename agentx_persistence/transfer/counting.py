"""Counting what a store holds: records, messages, bytes and tokens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import from_json

from agentx_persistence.errors import (
    CorruptRecordError,
    RecordConflictError,
    RecordNotFoundError,
)
from agentx_persistence.persistence import Persistence
from agentx_persistence.storage import IMAGES, SESSIONS, Storage, Stored, Text
from agentx_persistence.storage.kinds import CONTAINERS, ITEMS, SEPARATOR
from agentx_persistence.transfer import _walking as walking
from agentx_persistence.transfer.conversation import date
from agentx_persistence.transfer.reports import Progress, Step

NONE = "(none)"


@dataclass
class Tally:
    """A few sums. `bytes` are those of the JSON texts; tokens are counted where messages have a
    `usage`."""

    sessions: int = 0
    messages: int = 0
    bytes: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


@dataclass
class Statistics:
    """What `statistics` found. Days are those of the messages' timestamps, in UTC; the model is
    that of the session's image."""

    containers: int = 0
    images: int = 0
    items: int = 0
    total: Tally = field(default_factory=Tally)
    by_container: dict[str, Tally] = field(default_factory=dict)
    by_model: dict[str, Tally] = field(default_factory=dict)
    by_day: dict[str, Tally] = field(default_factory=dict)
    unreadable: int = 0


def statistics(
    persistence: Persistence,
    *,
    containers: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Statistics:
    """Read the whole store, or some containers, and count. What cannot be read is counted, too."""
    storage = walking.storage_of(persistence)
    found = Statistics()
    models: dict[str, str] = {}
    for kind in walking.ORDER:
        done, total = 0, walking.total(storage, kind, containers) if progress else 0
        for page in walking.pages(storage, kind, containers):
            for document in page:
                values = _values(document.text, found)
                if kind is IMAGES:
                    models[document.key] = str(values.get("model") or NONE)
                if kind is SESSIONS:
                    _count_session(storage, document, values, models, found)
                else:
                    container = document.key.partition(SEPARATOR)[0]
                    if kind is IMAGES:
                        container = str(values.get("containerId", NONE))
                    size = len(walking.raw(document.text))
                    found.total.bytes += size
                    _of(found.by_container, container).bytes += size
            done += len(page)
            found.containers += len(page) * (kind is CONTAINERS)
            found.images += len(page) * (kind is IMAGES)
            found.items += len(page) * (kind is ITEMS)
            if progress:
                progress(Step("count", kind.name, done, total, found.total.messages))
    return found


def _values(text: Text, found: Statistics) -> dict[str, Any]:
    try:
        values = from_json(text)
    except ValueError:
        values = None
    if isinstance(values, dict):
        return values
    found.unreadable += 1
    return {}


def _count_session(
    storage: Storage,
    session: Stored,
    values: dict[str, Any],
    models: dict[str, str],
    found: Statistics,
) -> None:
    where = (
        found.total,
        _of(found.by_container, str(values.get("containerId", NONE))),
        _of(found.by_model, models.get(str(values.get("imageId")), NONE)),
    )
    _add(where, sessions=1, bytes=len(walking.raw(session.text)))
    for text in _texts(storage, session.key, found):
        message = _values(text, found)
        timestamp = message.get("timestamp")
        day = date(timestamp).partition(" ")[0] if isinstance(timestamp, int) else NONE
        usage = message.get("usage")
        tokens = usage if isinstance(usage, dict) else {}
        _add(
            (*where, _of(found.by_day, day)),
            messages=1,
            bytes=len(walking.raw(text)),
            input_tokens=_number(tokens.get("inputTokens")),
            output_tokens=_number(tokens.get("outputTokens")),
        )


def _texts(storage: Storage, log: str, found: Statistics) -> Iterator[Text]:
    """Yield the texts up to the first that cannot be read, or until the history is cut."""
    try:
        for batch in walking.batches(storage, log, 0):
            yield from batch
    except CorruptRecordError:
        found.unreadable += 1
    except (RecordConflictError, RecordNotFoundError):
        return


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _of(tallies: dict[str, Tally], name: str) -> Tally:
    return tallies.setdefault(name, Tally())


def _add(tallies: Iterable[Tally], **amounts: int) -> None:
    for tally in tallies:
        for name, amount in amounts.items():
            setattr(tally, name, getattr(tally, name) + amount)
