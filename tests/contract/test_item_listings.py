"""Items by namespace, by what a namespace begins with, and by time; and who owns them."""

from __future__ import annotations

from typing import Any

import pytest

from agentx_persistence import (
    InvalidRecordError,
    Persistence,
)
from tests.contract import hostile
from tests.contract.records import container, image, item, session, walk

SPACE = ("box", "state")


def _names(items: Any) -> list[tuple[str, ...]]:
    return [(*item.namespace, item.key) for item in items]


NAMES = [
    ("box", "a", "z"),
    ("box", "key"),
    ("box", "state", "a"),
    ("box", "state", "b"),
    ("box", "state", "deep", "a"),
    ("box", "state", "deep", "er", "a"),
    ("box", "state", "é"),
    ("box", "state", "🙂"),
    ("box", "state", "\uffee"),
    ("box", "state2", "a"),
    ("box", "states", "a"),
    ("box2", "state", "a"),
    ("bo", "x", "a"),
    ("Box", "state", "a"),
]


def _sorted(names: Any) -> list[tuple[str, ...]]:
    """By namespace, whose elements are all ended, and key: as the documentation has it."""
    return sorted(
        names, key=lambda name: "".join(e + "\x1f" for e in name[:-1]) + "\x1f" + name[-1]
    )


def test_items_are_listed_by_namespace_and_by_what_it_begins_with(
    persistence: Persistence,
) -> None:
    items = persistence.items
    for number, name in enumerate(NAMES):
        items.save(item(name[:-1], name[-1], created_at=number % 5))
    for prefix in [name[:length] for name in NAMES for length in range(1, len(name))]:
        within = _sorted(n for n in NAMES if n[: len(prefix)] == prefix and len(n) > len(prefix))
        assert _names(items.find_all(namespace_prefix=prefix)) == within, prefix
        assert items.count(namespace_prefix=prefix) == len(within)
        assert _names(items.find_all(namespace_prefix=prefix, limit=2)) == within[:2]
        own = _sorted(n for n in NAMES if n[:-1] == prefix)
        assert _names(items.find_all(namespace=prefix)) == own
        assert items.count(namespace=prefix) == len(own)
        for size in (1, 3):
            assert _names(walk(persistence.items, size, namespace_prefix=prefix)) == within
            assert _names(walk(persistence.items, size, namespace=prefix)) == own
    assert items.find_all(namespace_prefix=("b",)) == []
    assert items.find_all(namespace_prefix=("box", "stat")) == []


def test_a_listing_can_start_after_a_namespace(persistence: Persistence) -> None:
    items = persistence.items
    names = [
        *NAMES,
        ("box", "state", "\U0010ffff" * 255),
        ("box", "!", "a"),
        ("box", "state", "!", "a"),
        ("box", "state", "!", "!", "!"),
    ]
    for name in names:
        items.save(item(name[:-1], name[-1]))
    every = _sorted(n for n in names if n[0] == "box")
    absent = [("box", "b"), ("box", "state", "d"), ("box", "zzz"), ("a",), ("c",), ("box",)]
    for after in [*(name[:-1] for name in names), *absent]:
        asked: dict[str, Any] = {"namespace_prefix": ("box",), "after_namespace": after}
        place = "".join(e + "\x1f" for e in after)
        later = [n for n in every if "".join(e + "\x1f" for e in n[:-1]) > place]
        assert _names(items.find_all(**asked)) == later, after
        assert _names(items.find_all(**asked, limit=1)) == later[:1]
        assert _names(walk(items, 2, **asked)) == later
    spaces, found = [], items.find_all(namespace_prefix=("box",), limit=1)
    while found:
        spaces.append(found[0].namespace)
        found = items.find_all(
            namespace_prefix=("box",), after_namespace=found[0].namespace, limit=1
        )
    assert spaces == list(dict.fromkeys(name[:-1] for name in every))


def test_items_of_a_namespace_are_listed_by_time(persistence: Persistence) -> None:
    items = persistence.items
    times = {"b": 5, "a": 5, "🙂": 5, "\uffee": 5, "old": -3, "new": 2**53 - 1}
    for key, created_at in times.items():
        items.save(item(key=key, created_at=created_at))
    items.save(item(("box", "state", "deeper"), "a", created_at=4))
    newest = sorted(times, key=lambda key: (-times[key], key))

    def keys(**asked: Any) -> list[str]:
        return [i.key for i in items.find_all(namespace=SPACE, **asked)]

    assert keys() == keys(order="key") == sorted(times)
    assert keys(order="newest") == newest
    assert keys(order="oldest") == newest[::-1]
    assert keys(order="newest", since=5, until=6) == newest[1:-1]
    assert keys(order="oldest", until=6, limit=2) == newest[:-3:-1]
    for order in ("newest", "oldest"):
        walked = walk(persistence.items, 2, namespace=SPACE, order=order)
        assert [i.key for i in walked] == keys(order=order)
    items.update(SPACE, "old", {"created_at": 6})
    assert keys(order="newest", since=6) == ["new", "old"]
    items.delete(SPACE, "new")
    assert keys(order="newest", limit=1) == ["old"]


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"namespace": SPACE, "namespace_prefix": SPACE},
        {"namespace_prefix": ()},
        {"namespace_prefix": SPACE, "order": "newest"},
        {"namespace_prefix": SPACE, "order": "oldest"},
        {"namespace": SPACE, "order": "active"},
        {"namespace": SPACE, "order": "Key"},
        {"namespace": SPACE, "since": 1},
        {"namespace_prefix": SPACE, "until": 1},
        {"namespace": SPACE, "order": "newest", "since": "1"},
        {"namespace": SPACE, "after_namespace": SPACE},
        {"namespace_prefix": SPACE, "after_namespace": ()},
        {"namespace_prefix": SPACE, "after_namespace": "box"},
    ],
    ids=str,
)
def test_a_wrong_question_is_refused(persistence: Persistence, wrong: dict[str, Any]) -> None:
    for call in (persistence.items.find_all, persistence.items.find_page):
        with pytest.raises(InvalidRecordError):
            call(**wrong)
    with pytest.raises(InvalidRecordError):
        persistence.items.find_page(namespace=SPACE, size=0)
    with pytest.raises(InvalidRecordError):
        persistence.items.find_all(namespace=SPACE, limit=-1)


def test_deleting_a_container_takes_the_items_that_begin_with_its_id(
    persistence: Persistence,
) -> None:
    items = persistence.items
    for name in NAMES:
        items.save(item(name[:-1], name[-1]))
    persistence.containers.save(container("box"))
    persistence.images.save(image("box", container_id="else"))
    persistence.sessions.save(session("state", container_id="else"))
    assert persistence.images.delete("box") is True
    assert persistence.sessions.delete("state") is True
    assert items.count(namespace_prefix=("box",)) == 11
    assert persistence.containers.delete("box") is True
    left = [name for name in NAMES if name[0] != "box"]
    for name in NAMES:
        assert items.exists(name[:-1], name[-1]) is (name in left), name
    assert items.count(namespace_prefix=("box",)) == items.count(namespace=SPACE) == 0
    assert items.find_all(namespace=SPACE, order="newest") == []
    assert persistence.containers.delete("bo") is False
    assert not items.exists(("bo", "x"), "a")
    assert items.exists(("Box", "state"), "a")


def test_every_container_owns_only_its_own_items(persistence: Persistence) -> None:
    for id in hostile.IDS:
        persistence.items.save(item((id,), id))
        persistence.items.save(item((id, "state"), "key"))
    for id in hostile.IDS[::2]:
        persistence.containers.delete(id)
    for number, id in enumerate(hostile.IDS):
        expected = [(id, id), (id, "state", "key")] if number % 2 else []
        found = _names(persistence.items.find_all(namespace_prefix=(id,)))
        assert found == _sorted(expected)
