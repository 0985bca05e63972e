"""Comparing two stores, byte by byte."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import chain, islice, zip_longest
from typing import TypeAlias

from agentx_persistence.errors import RecordConflictError, RecordNotFoundError
from agentx_persistence.persistence import Persistence
from agentx_persistence.storage import SESSIONS, Kind, Storage, Stored
from agentx_persistence.transfer import _walking as walking
from agentx_persistence.transfer._copied import Copied
from agentx_persistence.transfer.reports import Comparison, Difference, Progress, Step

# How many differences are named.
_NAMED = 1_000
Found: TypeAlias = tuple[Kind, str, Difference]


def compare(
    a: Persistence,
    b: Persistence,
    *,
    containers: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Compare all records, with their times, and all messages, byte by byte.

    Both may be larger than the memory.

    :param containers: only these containers, with their images, sessions and items
    """
    one, other = walking.storage_of(a), walking.storage_of(b)
    found = Comparison()
    for _, _, difference in chain(
        missing_or_different(one, other, containers, found, progress),
        _only_there(one, other, containers),
    ):
        found.count += 1
        if len(found.differences) < _NAMED:
            found.differences.append(difference)
    return found


def missing_or_different(
    a: Storage,
    b: Storage,
    containers: Sequence[str] | None,
    found: Comparison,
    progress: Progress | None = None,
    copied: Copied | None = None,
) -> Iterator[Found]:
    """Yield what `a` has and `b` has not, or has otherwise; count what was compared.

    :param copied: histories of which only `b` need be read
    """
    for kind in walking.ORDER:
        done, total = 0, walking.total(a, kind, containers) if progress else 0
        for page in walking.pages(a, kind, containers):
            keys = [document.key for document in page]
            theirs = b.get(kind, keys)
            proven = copied.proven(a, b, keys) if copied and kind is SESSIONS else {}
            for document in page:
                for difference in _compare_records(kind, document, theirs.get(document.key), found):
                    yield kind, document.key, difference
                if document.key in proven:
                    found.messages += proven[document.key]
                elif kind is SESSIONS and document.key in theirs:
                    history = compare_histories(a, b, document.key, found)
                    if history is not None:
                        yield kind, document.key, history
            done += len(page)
            if progress:
                progress(Step("compare", kind.name, done, total, found.messages))


def _compare_records(
    kind: Kind, mine: Stored, theirs: Stored | None, found: Comparison
) -> Iterator[Difference]:
    found.records += 1
    what = "is missing in the second store" if theirs is None else _difference(mine, theirs)
    if what is not None:
        digests = _record_digest(mine), "" if theirs is None else _record_digest(theirs)
        yield Difference(kind.noun, walking.name(kind, mine.key), what, None, *digests)


def _difference(mine: Stored, theirs: Stored) -> str | None:
    if walking.raw(mine.text) != walking.raw(theirs.text):
        return "the texts differ"
    if mine.updated_at != theirs.updated_at:
        return f"updated_at is {mine.updated_at} and {theirs.updated_at}"
    return None


def same(mine: Stored, theirs: Stored) -> bool:
    return _difference(mine, theirs) is None


def compare_histories(a: Storage, b: Storage, log: str, found: Comparison) -> Difference | None:
    """Return the first difference between two histories."""
    try:
        different = first_difference(a, b, log, found)
        if different is None:
            return None
        position, *texts = different
        # The digest of all earlier messages, which are the same.
        common = hashlib.sha256()
        for batch in walking.batches(a, log, 0, position - 1):
            common.update(b"".join(map(walking.raw, batch)))
    except (RecordConflictError, RecordNotFoundError):
        return Difference("session", log, "its history changed during the comparison")
    what, digests = "the texts differ", list[str]()
    for where, text in zip(("first", "second"), texts, strict=True):
        if text is None:
            what = f"is missing in the {where} store"
            digests.append("")
        else:
            digest = common.copy()
            digest.update(text)
            digests.append(digest.hexdigest())
    return Difference("session", log, what, position, *digests)


def first_difference(
    a: Storage, b: Storage, log: str, found: Comparison
) -> tuple[int, bytes | None, bytes | None] | None:
    """Return the first position at which two histories differ, and the two texts there."""
    position, others = 0, chain.from_iterable(_batches(b, log))
    # The empty list makes sure that `b` has no text after the last batch of `a`.
    for mine in chain(_batches(a, log), [[]]):
        theirs = list(islice(others, len(mine) or 1))
        if mine == theirs:
            position += len(mine)
            found.messages += len(mine)
            continue
        for one, other in zip_longest(mine, theirs):
            position += 1
            found.messages += 1
            if one != other:
                return position, one, other
    return None


def _batches(storage: Storage, log: str) -> Iterator[list[bytes]]:
    for texts in walking.batches(storage, log, 0):
        yield list(map(walking.raw, texts))


def _only_there(a: Storage, b: Storage, containers: Sequence[str] | None) -> Iterator[Found]:
    for kind in walking.ORDER:
        for page in walking.pages(b, kind, containers):
            mine = a.get(kind, [document.key for document in page])
            for document in page:
                here = mine.get(document.key)
                if here is None:
                    what, own = "is missing in the first store", ""
                elif containers is not None and _is_elsewhere(a, kind, here, containers):
                    what, own = "is in another container in the first store", _record_digest(here)
                else:
                    continue
                name, digest = walking.name(kind, document.key), _record_digest(document)
                yield kind, document.key, Difference(kind.noun, name, what, None, own, digest)


def _is_elsewhere(storage: Storage, kind: Kind, stored: Stored, containers: Sequence[str]) -> bool:
    """Return whether the record was not compared yet, as it is in none of these containers."""
    if "container_id" not in kind.fields:
        return False
    fields = walking.document_of(storage, kind, stored).fields
    return fields.get("container_id") not in containers


def _record_digest(stored: Stored) -> str:
    return hashlib.sha256(b"%d %s" % (stored.updated_at, walking.raw(stored.text))).hexdigest()
