"""What is stored, found without the package."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Raw:
    """Ids of each kind, messages by session as (position, id), and what does not fit together.

    :param repairable: what an interrupted call left, written down where a reader finds it
    :param counts: how many messages each session says that it has, where it says so
    """

    ids: dict[str, set[str]] = field(
        default_factory=lambda: {kind: set() for kind in ("containers", "images", "sessions")}
    )
    messages: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    repairable: list[str] = field(default_factory=list)
