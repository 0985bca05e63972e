from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentx_persistence import create_persistence
from agentx_persistence._fs import index
from agentx_persistence._fs.index import FIRST, Index, Place
from agentx_persistence._fs.locks import Locks
from agentx_persistence.fs import fs_driver
from tests.contract.records import image


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    """An empty index whose nodes hold so little that it soon has many levels."""
    monkeypatch.setattr(index, "_CAPACITY", 3)
    monkeypatch.setattr(os, "fsync", lambda _: None)
    for folder in ("index", "drafts", "locks"):
        (tmp_path / folder).mkdir()
    return Index(str(tmp_path), ("images", None, None), Locks(str(tmp_path / "locks")))


def _remaining(tmp_path: Path) -> list[Path]:
    return [path for path in tmp_path.rglob("*") if path.is_file() and path.parent.name != "locks"]


@pytest.mark.parametrize("pattern", ["newest first", "oldest first", "anyhow", "same times"])
def test_places_are_found_in_order_whatever_comes_and_goes(
    tree: Index, tmp_path: Path, pattern: str
) -> None:
    chance = random.Random(pattern)
    places: set[Place] = set()
    for number in range(300):
        time = {"newest first": -number, "oldest first": number, "same times": 0}.get(
            pattern, chance.randint(-40, 40)
        )
        place = (time, f"key {chance.randint(0, 99)}")
        if places and chance.random() < (0.2 if number % 150 < 100 else 0.8):
            gone = min(places) if pattern == "oldest first" else chance.choice(sorted(places))
            places.remove(gone)
            tree.remove(gone)
            tree.remove(gone)
        else:
            places.add(place)
            tree.add(place)
            tree.add(place)
        if number % 10 == 0:
            assert list(tree.walk(FIRST)) == sorted(places)
            assert list(tree.walk(place)) == [p for p in sorted(places) if p >= place]
    for place in sorted(places, key=lambda _: chance.random()):
        tree.remove(place)
    assert _remaining(tmp_path) == []


def test_a_reader_misses_nothing_while_nodes_split_and_go(
    tree: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    staying = [(number * 10, "stays") for number in range(20)]
    for place in staying:
        tree.add(place)
    chance = random.Random(1)
    passing: list[Place] = []
    read = index.read
    idle = True

    def read_while_others_write(path: str) -> bytes | None:
        nonlocal idle
        data = read(path)
        if idle and chance.random() < 0.7:
            idle = False
            # What was read is outdated before it is used.
            for _ in range(3):
                passing.append((chance.randint(0, 200), f"key {chance.random()}"))
                tree.add(passing[-1])
            while len(passing) > 40:
                tree.remove(passing.pop(chance.randrange(len(passing))))
            idle = True
        return data

    monkeypatch.setattr(index, "read", read_while_others_write)
    for _ in range(3):
        seen = list(tree.walk(FIRST))
        assert seen == sorted(set(seen))
        assert [place for place in seen if place[1] == "stays"] == staying


@pytest.mark.parametrize(("id", "created_at"), [("oldest", 9), ("newest", -9)])
@pytest.mark.parametrize("prepared", [False, True])
def test_a_record_that_moves_while_it_is_listed_is_there_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, id: str, created_at: int, prepared: bool
) -> None:
    moves = [image(id, created_at=created_at)]
    with create_persistence(fs_driver(tmp_path)) as persistence:
        for time, each in enumerate(("oldest", "other", "newest")):
            persistence.images.save(image(each, created_at=time))
        if prepared:  # a save enters the new place before the record is there
            locks = Locks(str(tmp_path / "locks"))
            Index(str(tmp_path), ("images", None, None), locks).add((-created_at, id))
        walk = Index.walk

        def moved_meanwhile(self: Index, start: Place) -> Iterator[Place]:
            for place in walk(self, start):
                yield place
                if place[1] == "newest" and moves:
                    persistence.images.save(moves.pop())

        monkeypatch.setattr(Index, "walk", moved_meanwhile)
        found = [each.image_id for each in persistence.images.find_all()]
    assert moves == []
    assert sorted(found) == ["newest", "oldest", "other"]
