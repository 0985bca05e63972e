"""An index as a B-tree of small files, so that a page costs a few of them, however many there are.

Each node is replaced in one step, under the lock of the index. Readers take no lock: as in Lehman
and Yao's B-link tree (https://doi.org/10.1145/319628.319663) a node says where it ends, and one
that ends before its parent says so was split meanwhile. A node that ends later is about to be cut,
or its writer was killed; what is behind the end that the parent gives is in the next node, too.
"""

from __future__ import annotations

import os
import shutil
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from agentx_persistence._fs.files import File, file_name, read
from agentx_persistence._fs.locks import Locks
from agentx_persistence.errors import CorruptRecordError

# What an index orders by: a negated `created_at`, so that the newest comes first, and a key.
Place = tuple[int, str]
# What an index is about: a kind, and if it has only some documents, a field and its value.
Subject = tuple[str, str | None, str | None]

FIRST: Place = (-(2**63), "")  # before all places: times are smaller than that
_CAPACITY = 256
_ROOT = ""
_ATTEMPTS = 5


class _Node(BaseModel):
    """A leaf, or for each child the place that it starts with. That of the first never counts."""

    model_config = ConfigDict(defer_build=True)

    index: Subject
    until: Place | None = None
    places: list[Place]
    children: list[str] = []
    # The number in the name of the next new child: no name is given twice.
    next: int = 1

    def child(self, place: Place, until: Place | None) -> tuple[int, Place | None]:
        """Return the number of the child that the place belongs to, and where that one ends."""
        slot = bisect_right(self.places, place, 1) - 1
        ends = [self.places[slot + 1]] if slot + 1 < len(self.places) else []
        return slot, min([*ends, *([until] if until else [])], default=None)

    def cut(self, until: Place | None) -> None:
        """Drop what a split that was not finished has put into the next node as well."""
        if until is not None and self.until != until:
            end = bisect_left(self.places, until, 1 if self.children else 0)
            del self.places[end:], self.children[end:]
            self.until = until


class _Step(NamedTuple):
    """A node on the way to a leaf, and which of its children is next."""

    name: str
    node: _Node
    slot: int


class Index:
    """The places of the documents that an index has, in order.

    A place is there before its document is, and until after: who reads compares the two.
    """

    def __init__(self, base: str, subject: Subject, locks: Locks) -> None:
        self._subject, self._locks = subject, locks
        self._name = file_name(*subject)
        self._path = f"{base}/index/{self._name[:2]}/{self._name[2:]}"
        self._drafts = f"{base}/drafts"

    def walk(self, start: Place) -> Iterator[Place]:
        """Iterate over the places from this one on. A node is read when it is needed."""
        at: Place | None = start
        while at is not None:
            places, at = self._leaf(at)
            yield from places

    def add(self, place: Place) -> None:
        with self._locks.hold("index", self._name):
            if self._find(_ROOT) is None:
                return self._write(_ROOT, _Node(index=self._subject, places=[place]))
            trail, name, leaf = self._descend(place)
            at = bisect_left(leaf.places, place)
            if leaf.places[at : at + 1] != [place]:
                leaf.places.insert(at, place)
                # Most are newer than all others: split so that what they leave behind is full.
                self._store(trail, name, leaf, 1 if at == 0 else len(leaf.places) // 2)

    def remove(self, place: Place) -> None:
        with self._locks.hold("index", self._name):
            if self._find(_ROOT) is None:
                return
            trail, name, leaf = self._descend(place)
            at = bisect_left(leaf.places, place)
            if leaf.places[at : at + 1] == [place]:
                del leaf.places[at]
                if leaf.places or trail:
                    self._write(name, leaf)
                if not leaf.places:
                    self._prune(trail, name)

    def _leaf(self, start: Place) -> tuple[list[Place], Place | None]:
        """Return the places from this one on that its leaf has, and where the leaf ends."""
        for _ in range(_ATTEMPTS):
            if found := self._try_leaf(start):
                return found
        with self._locks.hold("index", self._name):
            if found := self._try_leaf(start):
                return found
        raise self._corrupt(_ROOT)

    def _try_leaf(self, start: Place) -> tuple[list[Place], Place | None] | None:
        """Do the same; return ``None`` if the tree changed meanwhile."""
        node, until = self._find(_ROOT), None
        if node is None:
            return [], None
        while node.children:
            slot, until = node.child(start, until)
            node = self._find(node.children[slot])
            if node is None or (node.until and (until is None or node.until < until)):
                return None
        node.cut(until)
        return node.places[bisect_left(node.places, start) :], until

    def _descend(self, place: Place) -> tuple[list[_Step], str, _Node]:
        """Return the way to the leaf that the place belongs to, the name of the leaf, and it."""
        trail: list[_Step] = []
        name, node, until = _ROOT, self._read(_ROOT), None
        while node.children:
            slot, until = node.child(place, until)
            trail.append(_Step(name, node, slot))
            name = node.children[slot]
            node = self._read(name)
            node.cut(until)
        return trail, name, node

    def _store(self, trail: list[_Step], name: str, node: _Node, middle: int) -> None:
        """Write the node; split it if it is too large: first what is new, then what points to it,
        then what is left."""
        if len(node.places) <= _CAPACITY:
            return self._write(name, node)
        if not trail:
            return self._grow(node, middle)
        above, parent, slot = trail[-1]
        left, right = self._split(node, middle)
        new = self._name_child(above, parent)
        self._write(new, right)
        parent.places.insert(slot + 1, right.places[0])
        parent.children.insert(slot + 1, new)
        self._store(trail[:-1], above, parent, len(parent.places) // 2)
        self._write(name, left)

    def _grow(self, root: _Node, middle: int) -> None:
        halves = self._split(root, middle)
        names = [self._name_child(_ROOT, root) for _ in halves]
        for name, half in zip(names, halves, strict=True):
            self._write(name, half)
        places = [half.places[0] for half in halves]
        taller = _Node(index=self._subject, places=places, children=names, next=root.next)
        self._write(_ROOT, taller)

    def _split(self, node: _Node, middle: int) -> tuple[_Node, _Node]:
        right = _Node(
            index=self._subject,
            until=node.until,
            places=node.places[middle:],
            children=node.children[middle:],
        )
        left = node.model_copy()
        left.until = right.places[0]
        left.places, left.children = node.places[:middle], node.children[:middle]
        return left, right

    def _prune(self, trail: list[_Step], name: str) -> None:
        """Take an empty node out of the tree, and all above it that is empty then.

        What it covered falls to the child behind it, so that no other node changes its end. The
        last child has none behind it and stays, empty, until its parent has no other.
        """
        if not trail:
            self._file(_ROOT).remove()
            if os.path.isdir(self._path):
                shutil.rmtree(self._path)
            return
        above, parent, slot = trail[-1]
        if slot + 1 < len(parent.children):
            until = parent.places[slot + 1]
            del parent.children[slot], parent.places[slot + 1]
            self._write(above, parent)
            self._discard(name, until)
        if len(parent.children) == 1 and self._is_empty(parent.children[0], parent.until):
            self._prune(trail[:-1], above)

    def _is_empty(self, name: str, until: Place | None) -> bool:
        node = self._read(name)
        node.cut(until)
        if len(node.children) == 1:
            return self._is_empty(node.children[0], node.until)
        return not node.places

    def _discard(self, name: str, until: Place | None) -> None:
        node = self._read(name)
        node.cut(until)
        for child in node.children:  # one at most, as the node is empty
            self._discard(child, node.until)
        self._file(name).remove()

    @staticmethod
    def _name_child(parent_name: str, parent: _Node) -> str:
        number, parent.next = parent.next, parent.next + 1
        return f"{parent_name}-{number}"

    def _file(self, name: str) -> File:
        path = f"{self._path}.json" if name == _ROOT else f"{self._path}/{name}.json"
        return File(path, f"{self._drafts}/index-{self._name}{name}.json")

    def _write(self, name: str, node: _Node) -> None:
        self._file(name).write(node.model_dump_json().encode())

    def _read(self, name: str) -> _Node:
        node = self._find(name)
        if node is None:
            raise self._corrupt(name)
        return node

    def _find(self, name: str) -> _Node | None:
        data = read(self._file(name).path)
        if data is None:
            return None
        try:
            node = _Node.model_validate_json(data)
        except ValidationError as error:
            raise self._corrupt(name) from error
        if node.index != self._subject:
            raise self._corrupt(name)
        return node

    def _corrupt(self, name: str) -> CorruptRecordError:
        kind, field, value = self._subject
        return CorruptRecordError(
            f"{kind} index", f"{field}={value}" if field else kind, self._file(name).path
        )
