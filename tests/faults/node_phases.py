"""What is lost of several nodes while the writers work: a node, its role, or the majority."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

from tests.faults.crew import Crew
from tests.faults.phases import Proof
from tests.faults.recorder import ACKNOWLEDGED, Record

# What must not come of it, and what the table calls it.
_FAULTS = {"lost": "lost", "doubled": "doubled", "moved": "reordered"}
_UNAVAILABLE = "BackendUnavailableError"


class NodeProof(Proof):
    """:ivar rows: what came of each phase"""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.rows: list[dict[str, Any]] = []

    def node_lost(self, times: int) -> None:
        """Kill the node that is written to; let another take over; start it again."""
        with self._phase("node lost", times) as crew:
            for _ in range(times):
                crew.wait_for_progress(10)
                lost = self._nodes.lose()
                crew.wait_for_progress(10)
                self._nodes.regain(lost)
            crew.wait_for_progress(10)

    def switchover(self, times: int) -> None:
        with self._phase("switchover", times) as crew:
            for _ in range(times):
                crew.wait_for_progress(10)
                self._nodes.switch_over()
            crew.wait_for_progress(10)

    def minority(self, times: int, seconds: float) -> None:
        """Suspend the majority for so long."""
        with self._phase("minority", times) as crew:
            for _ in range(times):
                crew.wait_for_progress(10)
                with self._nodes.minority():
                    time.sleep(seconds)
                crew.wait_for_progress(10)

    @property
    def _nodes(self) -> Any:
        assert self.lab.nodes
        return self.lab.nodes

    @contextmanager
    def _phase(self, name: str, times: int) -> Iterator[Crew]:
        before = {kind: self.counts[kind] for kind in _FAULTS.values()}
        with self.crew(name.replace(" ", "-"), lossy=True) as crew:
            yield crew
        records = [Record(journal) for journal in crew.journals]
        errors = [f for r in records for each in r.operations for f in each.failures]
        others = [f for f in errors if f["failed"] != _UNAVAILABLE]
        self.problems += [f"[{name}] {each['failed']}: {each['why']}" for each in others[:20]]
        self.rows.append(
            {
                "phase": name,
                "times": times,
                "acknowledged": sum(_messages(record) for record in records),
                **{name: self.counts[kind] - before[kind] for name, kind in _FAULTS.items()},
                "longest gap, s": round(_longest_gap(records), 1),
                "unavailable": len(errors) - len(others),
                "other errors": len(others),
            }
        )


def _messages(record: Record) -> int:
    return sum(
        len(each.operation.get("messages", ()))
        for each in record.operations
        if each.outcome == ACKNOWLEDGED
    )


def _longest_gap(records: Sequence[Record]) -> float:
    times = sorted(at for record in records for at in record.acknowledged)
    return max((later - at for at, later in pairwise(times)), default=0.0)


def plan(proof: NodeProof, times: int, seconds: float = 8) -> dict[str, Callable[[], None]]:
    return {
        "lost": lambda: proof.node_lost(times),
        "switchover": lambda: proof.switchover(times),
        "minority": lambda: proof.minority(max(1, times // 2), seconds),
    }


def table(results: Sequence[dict[str, Any]]) -> str:
    """Return the rows of all engines as a table."""
    rows: list[list[str]] = []
    for result in results:
        for row in result["rows"]:
            cells = [result["backend"], result["version"], *map(str, row.values())]
            rows.append(cells)
    names = ["engine", "version", *(results[0]["rows"][0] if rows else ())]
    return "\n".join(f"| {' | '.join(row)} |" for row in [names, ["---"] * len(names), *rows])
