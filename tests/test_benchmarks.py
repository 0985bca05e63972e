from __future__ import annotations

from pathlib import Path

from benchmarks import operations
from benchmarks.backends import BACKENDS
from benchmarks.measure import compare


def test_every_operation_is_measured_on_both_sides(tmp_path: Path) -> None:
    with BACKENDS["sqlite-normal"](tmp_path) as contest:
        found = list(operations.run(contest, rounds=5, largest=100))
        raw = contest.raw.load("empty")
        ours = contest.persistence.sessions.get_messages("empty")
        assert len(found) == operations.count(contest, 100)
    assert all(timing.median > 0 for each in found for timing in (each.ours, each.raw))
    # Both sides did the same work: as many messages in, as many out.
    assert len([m for m in raw if m["content"]]) > 100
    assert len(ours) > len(raw)  # ours was measured there once more, against itself


def test_a_comparison_calls_both_equally_often() -> None:
    calls = {"ours": 0, "raw": 0}

    def call(side: str) -> None:
        calls[side] += 1

    found = compare("operation", lambda: call("ours"), lambda: call("raw"), 20)
    assert calls["ours"] == calls["raw"] > 20
    assert found.ratio == found.ours.median / found.raw.median
