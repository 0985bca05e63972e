"""A writer: it chooses an operation, writes it down, does it, and writes down what came of it.

Only this writer changes its own records, so it is known what they must be. Sessions that all
writers share only grow. What it does is chosen by its seed and the number of the operation, in
whatever process it goes on.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from agentx_persistence import (
    BackendError,
    ContainerRecord,
    ImageRecord,
    ItemRecord,
    Persistence,
    PersistenceError,
    RecordConflictError,
    RecordNotFoundError,
    SessionRecord,
    UserMessage,
)
from tests.faults.choice import WEIGHTS, Choice, append, new_message
from tests.faults.model import Model, Operation, Subject, content, namespace_of, stored_state
from tests.faults.recorder import ABANDONED, ACKNOWLEDGED, REFUSED, WRONG, Journal, Record

SHARED = ("shared:0", "shared/1")
_GIVES_UP_AFTER = 150.0


class Writer:
    """:param shared: the sessions that all writers append to
    :param lossy: whether answers get lost. A deletion that is repeated within the package then
        answers what the repetition found: that nothing was there to delete any more
    """

    def __init__(
        self,
        persistence: Persistence,
        journal: Path,
        seed: int,
        shared: tuple[str, ...] = SHARED,
        weights: Mapping[str, int] = WEIGHTS,
        lossy: bool = False,
    ) -> None:
        self._persistence, self._seed, self._shared = persistence, seed, shared
        self._weights, self._lossy = weights, lossy
        self.name = journal.stem
        record = Record(journal) if journal.exists() else None
        self._journal = Journal(journal)
        self._model = Model()
        self._in_shared: list[tuple[str, list[Any], list[int]]] = []
        self._number = 0
        self._unknown: Operation | None = None
        for recorded in record.operations if record else ():
            self._number = recorded.operation["n"]
            if recorded.outcome == ACKNOWLEDGED:
                self._learn(recorded.operation, recorded.result)
            elif recorded.outcome is None:
                self._unknown = recorded.operation

    def recover(self) -> None:
        """See what became of the call that the writer was killed in; do it again, or leave it."""
        operation, self._unknown = self._unknown, None
        if operation is None:
            return
        self._examine(operation)
        is_shared = operation.get("id") in self._shared
        if is_shared and random.Random(f"{self._seed} {operation['n']} leave").random() < 0.3:
            self._journal.end(ABANDONED)
        else:
            self._run(operation)

    def step(self) -> None:
        self._number += 1
        chance = random.Random(f"{self._seed} {self.name} {self._number}")
        choice = Choice(self.name, self._number, chance, self._model, self._shared, self._in_shared)
        self._run(choice.operation(self._weights))

    def finish(self) -> None:
        """Append once more to each shared session, which clears what others left there."""
        for session in self._shared:
            self._number += 1
            last = new_message(self.name, self._number, 0, 10)
            self._run({"n": self._number, **append(session, [last])})
        self._journal.note("finished")
        self._journal.close()

    def _run(self, operation: Operation) -> None:
        began = time.monotonic()
        failed = False
        while True:
            self._journal.attempt(operation)
            called = time.monotonic()
            try:
                result = self._perform(operation)
            except (RecordConflictError, RecordNotFoundError) as error:
                expected = operation.get("refused")
                fits = expected == type(error).__name__
                return self._journal.end(REFUSED if fits else WRONG, str(error))
            except BackendError as error:
                self._journal.failure(error, round(time.monotonic() - called, 3))
                if time.monotonic() - began > _GIVES_UP_AFTER:
                    raise
                failed = True
                time.sleep(0.05)
                self._examine_if_possible(operation)
            except PersistenceError as error:
                return self._journal.end(WRONG, f"{type(error).__name__}: {error}")
            else:
                if operation.get("refused"):
                    return self._journal.end(WRONG, "was not refused")
                problem = self._unexpected(operation, result, failed)
                if problem:
                    return self._journal.end(WRONG, problem)
                self._learn(operation, result)
                return self._journal.end(ACKNOWLEDGED, result, time.monotonic() - called)

    def _perform(self, operation: Operation) -> Any:
        p, done, id = self._persistence, operation["do"], operation["id"]
        if done == "append":
            messages = list(map(_message, operation["messages"]))
            expected = operation.get("expected")
            if len(messages) == 1:
                return [p.sessions.add_message(id, messages[0], expected=expected)]
            return p.sessions.add_messages(id, messages, expected=expected)
        if done in ("rewrite", "pop", "replace", "fork"):
            return self._perform_change(operation)
        calls: dict[str, Callable[[], Any]] = {
            "save container": lambda: p.containers.save(
                ContainerRecord(container_id=id, config={"note": operation["note"]}, created_at=1)
            ),
            "save image": lambda: p.images.save(ImageRecord(image_id=id, **operation["image"])),
            "metadata": lambda: p.images.update_metadata(id, operation["changes"]) and None,
            "save session": lambda: p.sessions.save(
                SessionRecord(session_id=id, **operation["session"])
            ),
            "truncate": lambda: p.sessions.truncate_after(id, operation["after"]),
            "clear": lambda: p.sessions.clear_messages(id),
            "update image": lambda: p.images.update(id, operation["changes"]) and None,
            "update session": lambda: p.sessions.update(id, operation["changes"]) and None,
            "save item": lambda: p.items.save(
                ItemRecord(namespace=namespace_of(id), key=id, value={"note": operation["note"]})
            ),
            "update item": lambda: (
                p.items.update(namespace_of(id), id, {"value": operation["changes"]}) and None
            ),
            "delete items": lambda: p.items.delete(namespace_of(id), id),
            "delete containers": lambda: p.containers.delete(id),
            "delete images": lambda: p.images.delete(id),
            "delete sessions": lambda: p.sessions.delete(id),
        }
        return calls[done]()

    def _perform_change(self, operation: Operation) -> Any:
        """Change messages. What an attempt that failed has done is not done again."""
        sessions, done, id = self._persistence.sessions, operation["do"], operation["id"]
        if done == "rewrite":
            messages = list(map(_message, operation["messages"]))
            removed = sessions.rewrite(id, after=operation["after"], messages=messages)
            return [message.id for message in removed]
        if done == "pop":
            newest = sessions.get_messages(id, last=1)
            if operation.get("retried") and [m.id for m in newest] != [operation["pops"]]:
                return operation["pops"]
            popped = sessions.pop_message(id)
            return popped and popped.id
        if done == "replace":
            return sessions.replace_message(id, _message(operation["message"]))
        if operation.get("retried") and sessions.exists(id):
            return sessions.count_messages(id)
        new = SessionRecord(session_id=id, **operation["session"])
        return sessions.fork(operation["of"], new, through=operation.get("through"))

    def _unexpected(self, operation: Operation, result: Any, failed: bool) -> str | None:
        """Say what is wrong with an answer; after a failure, the first call may have done it."""
        done, id = operation["do"], operation["id"]
        if done == "append":
            if len(result) != len(operation["messages"]):
                return f"answered {result}"
            if id in self._shared:
                before = [places for s, marks, places in self._in_shared if s == id]
                if operation.get("again"):
                    return None if result in before else f"another position: {result}"
                in_order = [p for places in before for p in places] or [0]
                if result[0] <= max(in_order) or result[-1] - result[0] != len(result) - 1:
                    return f"answered {result} after {in_order[-1]}"
                return None
            there = [m for m, _ in self._model.sessions[id]["messages"]]
            ids = [m for m, _ in operation["messages"]]
            there += [m for m in ids if m not in there]
            expected = [there.index(m) + 1 for m in ids]
            return None if result == expected else f"answered {result}, not {expected}"
        expected = self._expected(done, id, operation)
        if expected is None or result == expected or failed or operation.get("retried"):
            return None
        if self._lossy and not result and done.startswith("delete"):
            self._journal.finding("answered by the repetition")
            return None
        return f"answered {result}, not {expected}"

    def _expected(self, done: str, id: str, operation: Operation) -> Any:
        """Return what a deletion or a change of messages answers."""
        if done == "rewrite":
            ids = [m for m, _ in self._model.sessions[id]["messages"]]
            return ids[ids.index(operation["after"]) + 1 :]
        if done == "pop":
            return operation["pops"]
        if done == "fork":
            ids = [m for m, _ in self._model.sessions[operation["of"]]["messages"]]
            return ids.index(operation["through"]) + 1 if "through" in operation else len(ids)
        if done in ("truncate", "clear"):
            ids = ["", *(m for m, _ in self._model.sessions[id]["messages"])]
            return len(ids) - 1 - ids.index(operation.get("after", ""))
        if done.startswith("delete"):
            return self._model.state((done.removeprefix("delete "), id)) is not None
        return None

    def _learn(self, operation: Operation, result: Any) -> None:
        id = operation["id"]
        if id in self._shared:
            self._in_shared.append((id, operation["messages"], result))
        else:
            self._model.apply(operation)

    def _examine_if_possible(self, operation: Operation) -> None:
        try:
            self._examine(operation)
        except BackendError:
            self._journal.finding("not to be told yet")

    def _examine(self, operation: Operation) -> None:
        """Write down whether the operation is there; it must be so as a whole or not at all."""
        operation["retried"] = True
        if operation["id"] in self._shared:
            return self._journal.finding(self._part_in_shared(operation))
        after = Model()
        for kind in ("containers", "images", "sessions", "items"):
            own = getattr(self._model, kind)
            setattr(after, kind, {id: self._model.state((kind, id)) for id in own})
        if not operation.get("refused"):
            after.apply(operation)
        parts = {self._part(subject, after) for subject in self._model.touched(operation)}
        if {"there", "absent"} <= parts and operation["do"].startswith("delete"):
            return self._journal.finding("a deletion half-way")
        torn = parts - {"there", "absent", "no difference"}
        self._journal.finding("; ".join(torn) if torn else "/".join(sorted(parts)))

    def _part(self, subject: Subject, after: Model) -> str:
        old, new = self._model.state(subject), after.state(subject)
        found = stored_state(self._persistence, subject)
        if old == new == found:
            return "no difference"
        if found == new:
            return "there"
        return "absent" if found == old else f"TORN: {subject} is {str(found)[:300]}"

    def _part_in_shared(self, operation: Operation) -> str:
        wanted = [m for m, _ in operation["messages"]]
        own = [marks[-1][0] for s, marks, _ in self._in_shared if s == operation["id"]]
        stored = self._persistence.sessions.get_messages(
            operation["id"], after=own[-1] if own and not operation.get("again") else None
        )
        found = [message.id for message in stored if message.id in wanted]
        if operation.get("again") or operation.get("refused"):
            return "no difference"
        if found == wanted:
            return "there"
        return "absent" if not found else f"TORN: {found} of {wanted} in {operation['id']}"


def _message(mark: Sequence[Any]) -> UserMessage:
    id, length = mark
    return UserMessage(id=id, content=content(id, length), timestamp=1)
