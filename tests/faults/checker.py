"""Compares what is stored with what the writers wrote down."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentx_persistence import Persistence
from tests.faults.choice import BOXES, NUMBERS
from tests.faults.model import Model, mark, namespace_of, stored_state
from tests.faults.raw import Raw
from tests.faults.recorder import ABANDONED, ACKNOWLEDGED, WRONG, Record

# What there must be none of.
FAULTS = ("lost", "doubled", "reordered", "gaps", "traces", "torn", "index", "wrong")


@dataclass
class Verdict:
    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def fault(self, kind: str, what: str) -> None:
        self.counts[kind] += 1
        if len(self.problems) < 200:
            self.problems.append(f"{kind}: {what}")

    @property
    def faults(self) -> int:
        return sum(self.counts[kind] for kind in FAULTS)


def check(
    persistence: Persistence, raw: Raw, journals: Iterable[Path], shared: Sequence[str]
) -> Verdict:
    """:param raw: read before anything was read by the package, which repairs as it reads"""
    verdict = Verdict()
    records = [Record(path) for path in journals]
    sent: dict[str, dict[str, tuple[int, int | None, str]]] = {id: {} for id in shared}
    models = [_replay(verdict, record, sent) for record in records]
    for id in shared:
        _check_shared(verdict, persistence, raw, id, sent[id])
    for record, model in zip(records, models, strict=True):
        _check_own(verdict, persistence, raw, record, model)
    _check_nothing_else(verdict, persistence, raw, models, shared)
    for id, count in raw.counts.items():
        if count != len(raw.messages.get(id, ())):
            verdict.fault("gaps", f"raw: {id} counts {count} messages")
    verdict.counts["left to be repaired"] += len(raw.repairable)
    for problem in raw.problems:
        verdict.fault("index" if "index" in problem else "traces", f"raw: {problem}")
    return verdict


def _replay(
    verdict: Verdict, record: Record, sent: dict[str, dict[str, tuple[int, int | None, str]]]
) -> Model:
    model = Model()
    counts = verdict.counts
    for operation, outcome, result, failures in record.operations:
        counts["operations"] += 1
        counts["failed calls"] += len(failures)
        counts[str(outcome)] += 1
        where = f"{record.writer} operation {operation['n']} ({operation['do']})"
        if outcome in (WRONG, None):
            verdict.fault("wrong", f"{where}: {result or 'has no end'}")
        if outcome == ACKNOWLEDGED and operation["id"] not in sent:
            model.apply(operation)
            counts["acknowledged messages"] += len(operation.get("messages", ()))
        elif operation["id"] in sent and outcome in (ACKNOWLEDGED, ABANDONED):
            known = sent[operation["id"]]
            for index, (id, length) in enumerate(operation["messages"]):
                position = result[index] if outcome == ACKNOWLEDGED else None
                if id not in known:
                    known[id] = (length, position, record.writer)
                    counts["acknowledged messages"] += position is not None
    counts["slowest call, s"] = max(counts["slowest call, s"], round(record.slowest))
    for found, count in record.findings.items():
        counts[f"found {found}"[:40]] += count
        if "TORN" in found:
            verdict.fault("torn", f"{record.writer}: {found}")
    if "finished" not in record.notes:
        verdict.fault("wrong", f"{record.writer} did not come to its end")
    return model


def _check_shared(
    verdict: Verdict,
    persistence: Persistence,
    raw: Raw,
    session: str,
    sent: dict[str, tuple[int, int | None, str]],
) -> None:
    messages = [mark(message) for message in persistence.sessions.get_messages(session)]
    places = {id: position for position, (id, _) in enumerate(messages, 1)}
    for id, times in Counter(id for id, _ in messages).items():
        if times > 1:
            verdict.fault("doubled", f"{id} in {session} {times} times")
    if [id for _, id in raw.messages.get(session, ())] != [id for id, _ in messages]:
        verdict.fault("wrong", f"{session}: raw messages differ from what the package gives")
    if [p for p, _ in raw.messages.get(session, ())] != list(range(1, len(messages) + 1)):
        verdict.fault("gaps", f"the positions in {session}")
    if persistence.sessions.count_messages(session) != len(messages):
        verdict.fault("gaps", f"the count of {session}")
    last: dict[str, int] = {}
    for id, (length, position, writer) in sent.items():
        if position is None:
            verdict.counts["left unacknowledged, there" if id in places else "left, absent"] += 1
        elif id not in places:
            verdict.fault("lost", f"{id} in {session}, acknowledged at {position}")
        else:
            if places[id] != position or places[id] <= last.get(writer, 0):
                verdict.fault("reordered", f"{id} in {session}: {position}, now {places[id]}")
            last[writer] = places[id]
        if id in places and messages[places[id] - 1][1] != length:
            verdict.fault("torn", f"the text of {id} in {session}")
    for id in places.keys() - sent.keys():
        verdict.fault("wrong", f"{id} in {session} is nobody's")


def _check_own(
    verdict: Verdict, persistence: Persistence, raw: Raw, record: Record, model: Model
) -> None:
    writer = record.writer
    for kind in ("containers", "images", "sessions", "items"):
        for id in getattr(model, kind):
            found, expected = stored_state(persistence, (kind, id)), model.state((kind, id))
            if found is None:
                verdict.fault("lost", f"{kind} {id}")
            elif found != expected:
                _check_difference(verdict, kind, id, found, expected)
            if kind == "sessions":
                there = raw.messages.get(id, [])
                if there != list(enumerate((m for m, _ in expected["messages"]), 1)):
                    verdict.fault("wrong", f"{id}: the raw messages are {there}")
    boxes = {f"{writer}/box:{number}" for number in BOXES}
    names = {f"{writer} name {number}" for number in range(5)}
    images = {id: (i["container_id"], i["name"]) for id, i in model.images.items()}
    for box in boxes:
        _compare(
            verdict,
            f"images in {box}",
            persistence.images.find_all(container_id=box),
            {id for id, (b, _) in images.items() if b == box},
            "image_id",
        )
        for order in ("newest", "active"):
            _compare(
                verdict,
                f"sessions in {box}, {order}",
                persistence.sessions.find_all(container_id=box, order=order),
                {id for id, s in model.sessions.items() if s["container_id"] == box},
                "session_id",
            )
        for asked in ({"namespace": (box, "state")}, {"namespace_prefix": (box,)}):
            _compare(
                verdict,
                f"items in {asked}",
                persistence.items.find_all(**asked),  # type: ignore[arg-type]
                {id for id in model.items if namespace_of(id) == (box, "state")},
                "key",
            )
    for name in names:
        _compare(
            verdict,
            f"images named {name}",
            persistence.images.find_all(name=name),
            {id for id, (_, n) in images.items() if n == name},
            "image_id",
        )
        for box in boxes:
            _compare(
                verdict,
                f"{name} in {box}",
                persistence.images.find_all(name=name, container_id=box),
                {id for id, found in images.items() if found == (box, name)},
                "image_id",
            )
    for number in NUMBERS:
        image = f"{writer}-i{number}"
        _compare(
            verdict,
            f"sessions of {image}",
            persistence.sessions.find_all(image_id=image),
            {id for id, s in model.sessions.items() if s["image_id"] == image},
            "session_id",
        )


def _check_difference(verdict: Verdict, kind: str, id: str, found: Any, expected: Any) -> None:
    if kind != "sessions" or found["messages"] == expected["messages"]:
        return verdict.fault("wrong", f"{kind} {id} is {found}, not {expected}")
    there, wanted = found["messages"], expected["messages"]
    for message, times in Counter(there).items():
        if times > 1:
            verdict.fault("doubled", f"{message} in {id}")
    for message in wanted:
        if message not in there:
            verdict.fault("lost", f"{message} in {id}")
    for message in there:
        if message not in wanted:
            verdict.fault("traces", f"{message} in {id} was cut off")
    if sorted(there) == sorted(wanted):
        verdict.fault("reordered", f"{id}: {there}")


def _compare(
    verdict: Verdict, what: str, found: Iterable[Any], expected: set[str], key: str
) -> None:
    ids = [getattr(record, key) for record in found]
    if sorted(ids) != sorted(expected):
        verdict.fault("index", f"{what}: {sorted(ids)}, not {sorted(expected)}")


def _check_nothing_else(
    verdict: Verdict,
    persistence: Persistence,
    raw: Raw,
    models: Sequence[Model],
    shared: Sequence[str],
) -> None:
    listed = {
        "containers": [c.container_id for c in persistence.containers.find_all()],
        "images": [i.image_id for i in persistence.images.find_all()],
        "sessions": [s.session_id for s in persistence.sessions.find_all()],
    }
    for kind, found in listed.items():
        expected = {id for model in models for id in getattr(model, kind)}
        expected |= set(shared) if kind == "sessions" else set()
        if sorted(found) != sorted(expected):
            verdict.fault("index", f"all {kind}: {sorted({*found} ^ expected)}")
        for id in raw.ids[kind] - expected:
            verdict.fault("traces", f"raw: {kind} {id}")
        for id in expected - raw.ids[kind]:
            verdict.fault("lost", f"raw: {kind} {id}")
    for id in raw.messages.keys() - {i for m in models for i in m.sessions} - set(shared):
        if raw.messages[id]:
            verdict.fault("traces", f"raw: messages of {id}")
