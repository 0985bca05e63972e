"""What the calls of this package report: progress, differences, and what was done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple


class Step(NamedTuple):
    """How far a call has come.

    `phase` is what it does ("copy", "compare", …), `kind` the kind of the records. `done` of about
    `total` records of this kind are finished; `messages` counts those of the whole phase.
    """

    phase: str
    kind: str
    done: int
    total: int
    messages: int


Progress = Callable[[Step], None]


def counted(number: int, plural: str) -> str:
    """Return a number of things, such as "1 session" and "2 sessions"."""
    return f"{number} {plural.removesuffix('s') if number == 1 else plural}"


class Difference(NamedTuple):
    """A record, or a message, that is not the same on both sides.

    `what` says how they differ. `position` is that of the first message that differs, or ``None``
    if the record itself differs. `a` and `b` are SHA-256 digests of both sides (of a history up to
    that message), "" for what is absent.
    """

    kind: str
    id: str
    what: str
    position: int | None = None
    a: str = ""
    b: str = ""

    def __str__(self) -> str:
        place = "" if self.position is None else f", message {self.position}"
        return f"{self.kind} {self.id!r}{place}: {self.what}"


@dataclass
class Comparison:
    """What `compare` found. `differences` are the first ones; `count` is the number of all."""

    records: int = 0
    messages: int = 0
    count: int = 0
    differences: list[Difference] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        return not self.count


@dataclass
class CopyReport:
    """What `copy` did, or would do, if `dry_run`.

    `records` counts those that were written, by kind; `unchanged` those that were there already.
    `messages` counts those that were written, `rewritten` the histories of the target that were cut
    because they differed. `comparison` is the one at the end; ``None`` for a dry run.
    """

    dry_run: bool = False
    records: dict[str, int] = field(default_factory=dict)
    unchanged: int = 0
    messages: int = 0
    rewritten: int = 0
    comparison: Comparison | None = None

    @property
    def complete(self) -> bool:
        """Whether the target has all that the source has, as the comparison proved."""
        return self.comparison is not None and self.comparison.equal

    def wrote(self, kind: str) -> None:
        self.records[kind] = self.records.get(kind, 0) + 1


@dataclass
class ImportReport:
    """What an import did: records written by kind, messages written, and what was there already.

    `skipped` names what was not imported, each with its reason; `notes` say what else is not as it
    was in the source.
    """

    records: dict[str, int] = field(default_factory=dict)
    messages: int = 0
    unchanged: int = 0
    skipped: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def wrote(self, kind: str) -> None:
        self.records[kind] = self.records.get(kind, 0) + 1
