from __future__ import annotations

import json
from pathlib import Path

from benchmarks.backends import BACKENDS, Contest
from benchmarks.measure import Operation, compare
from benchmarks.operations import operations

OPERATIONS = (
    *("append at 0 stored", "append at 100 stored", "append at 100 stored, against ours at 0"),
    *("append a batch of 100", "load 1,000", "last 50 of 100", "stream 100"),
    *("page of 20 among 100 images", "get an image", "save an image", "update_metadata"),
    *("update an image", "rewrite the last message", "pop the last message", "fork 100"),
    *("page of 20 by activity among 1,000 sessions", "summaries of 20", "put an item"),
    *("get an item", "update an item", "delete an image with 1,000 messages"),
    "open a current store",
)


def test_every_operation_is_measured_on_both_sides(tmp_path: Path) -> None:
    with BACKENDS["sqlite-normal"](tmp_path) as contest:
        found = [compare(each) for each in operations(contest, rounds=5, largest=100)]
        raw = contest.raw.load("empty")
        ours = contest.persistence.sessions.get_messages("empty")
        hold_the_same(contest)
    assert tuple(each["operation"] for each in found) == OPERATIONS
    assert all(each["ours"] > 0 and each["raw"] > 0 for each in found)
    # Both sides did the same work: as many messages in, as many out.
    assert len([m for m in raw if m["content"]]) > 100
    assert len(ours) > len(raw)  # ours was measured there once more, against itself


def hold_the_same(contest: Contest) -> None:
    sessions, raw = contest.persistence.sessions, contest.raw
    for id in ("rewritten", "popped", "forked", "fork 0", "chat 0"):
        ours = [message.to_json() for message in sessions.get_messages(id)]
        assert [json.dumps(m, separators=(",", ":")) for m in raw.load(id)] == ours
    ids = [f"chat {number}" for number in range(20)]
    counts = {id: summary.message_count for id, summary in sessions.summaries(ids).items()}
    assert {id: count for id, (count, _) in raw.summaries(ids).items()} == counts
    listed = sessions.find_page(container_id="list_1", order="active", size=20).items
    assert [s["sessionId"] for s in raw.page("sessions", "list_1", 20)] == [
        s.session_id for s in listed
    ]
    ours_item = contest.persistence.items.get(("box_1", "notes"), "item_2")
    assert raw.get("items", "box_1\x1fnotes\x1fitem_2")["value"] == ours_item.value
    image = contest.persistence.images.get("image_7")
    assert raw.get("images", "image_7")["customData"]["key"] == image.custom_data["key"]


def test_a_comparison_calls_both_equally_often() -> None:
    calls = {"ours": 0, "raw": 0}

    def call(side: str) -> None:
        calls[side] += 1

    found = compare(Operation("operation", lambda: call("ours"), lambda: call("raw"), 20))
    assert calls["ours"] == calls["raw"] > 20
    assert found["operation"] == "operation"
    assert found["ours"] > 0
    assert found["ratio"] == found["ours"] / found["raw"]
