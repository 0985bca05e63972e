from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

from agentx_persistence import (
    ImageRecord,
    ItemRecord,
    SessionRecord,
    UserMessage,
    create_persistence,
)
from agentx_persistence.records import now
from benchmarks.backends import Contest
from benchmarks.measure import Comparison, compare
from benchmarks.raw.memory import RawMemory
from benchmarks.raw.store import Image, RawServer, Session

T = TypeVar("T")

_BODY = "x" * 400  # makes a message of about 500 bytes
_START = 1_700_000_000_000
_SIZES = (0, 100, 1_000, 10_000, 100_000)
_IMAGES = (100, 10_000, 100_000)
_BOXES = 5


def count(contest: Contest, largest: int) -> int:
    """Return how many comparisons `run` makes."""
    sizes = sum(size <= largest for size in (*_SIZES, *_IMAGES))
    special = isinstance(contest.raw, RawMemory) + 8 * isinstance(contest.raw, RawServer)
    return sizes + 11 + special


def run(contest: Contest, rounds: int, largest: int, sessions: int = 1_000) -> Iterator[Comparison]:
    """Measure every operation; give each result as soon as it is there."""
    yield from _appending(contest, rounds, largest)
    yield from _reading(contest, rounds, largest)
    yield from _images(contest, rounds, largest)
    if isinstance(contest.raw, RawServer):
        yield from _changing(contest, contest.raw, rounds, largest)
        yield from _listing(contest, contest.raw, rounds, sessions)
        yield from _items(contest, contest.raw, rounds)
    yield from _deleting(contest, rounds)
    yield compare(
        "open a current store",
        lambda: create_persistence(contest.driver).close(),
        contest.open_raw,
        rounds // 20,
    )


def _appending(contest: Contest, rounds: int, largest: int) -> Iterator[Comparison]:
    add, most = contest.persistence.sessions.add_message, rounds * 2 + 100
    sizes = [size for size in _SIZES if size <= largest]
    for size in sizes:
        id = f"session of {size}"
        _new_session(contest, id, size)
        new = new_messages(most)
        ours, raw = _each(new, partial(add, id)), _each(new, partial(_append_raw, contest, id))
        yield compare(f"append at {size:,} stored", ours, raw, rounds)
    _new_session(contest, "empty", 0)
    longest = _each(new_messages(most), partial(add, f"session of {sizes[-1]}"))
    empty = _each(new_messages(most), partial(add, "empty"))
    yield compare(f"append at {sizes[-1]:,} stored, against ours at 0", longest, empty, rounds)
    if isinstance(contest.raw, RawMemory):  # elsewhere the rest is far more than that
        ours = _each(new_messages(most), partial(add, "empty"))
        only = _each(new_messages(most), UserMessage.to_json)
        yield compare("append at 0 stored, against only its JSON", ours, only, rounds)
    batches = [new_messages(100) for _ in range(rounds // 5 + 100)]
    ours = _each(batches, partial(contest.persistence.sessions.add_messages, "empty"))
    raw = _each(batches, lambda batch: _append_raw(contest, "empty", *batch))
    yield compare("append a batch of 100", ours, raw, rounds // 10)


def _reading(contest: Contest, rounds: int, largest: int) -> Iterator[Comparison]:
    sessions, raw = contest.persistence.sessions, contest.raw
    _new_session(contest, "thousand", 1_000)
    both = partial(sessions.get_messages, "thousand"), partial(raw.load, "thousand")
    yield compare("load 1,000", *both, rounds // 10)
    size = min(largest, 10_000)
    id = f"session of {size}"
    both = partial(sessions.get_messages, id, last=50), partial(raw.load, id, 50)
    yield compare(f"last 50 of {size:,}", *both, rounds)
    size = min(largest, 100_000)
    id = f"session of {size}"
    count = lambda: sum(1 for _ in sessions.iter_messages(id))  # noqa: E731
    yield compare(f"stream {size:,}", count, partial(raw.stream, id), 5)


def _images(contest: Contest, rounds: int, largest: int) -> Iterator[Comparison]:
    images, raw = contest.persistence.images, contest.raw
    saved = 0
    for size in (size for size in _IMAGES if size <= largest):
        for start in range(saved, size, 1000):
            batch = [_image(number) for number in range(start, min(start + 1000, size))]
            contest.fill(images, batch)
            raw.save_images([_image_row(image) for image in batch])
        saved = size
        page = partial(images.find_page, container_id="box_1", size=20)
        yield compare(
            f"page of 20 among {size:,} images", page, partial(raw.page, "box_1", 20), rounds
        )
    id = "image_7"
    yield compare("get an image", partial(images.get, id), partial(raw.get_image, id), rounds)
    # Each differs from what is stored: MySQL writes nothing for a row that stays the same.
    changed = [_image(number % 50, version=number) for number in range(rounds * 2 + 100)]
    save_raw = _each(changed, lambda image: raw.save_image(*_image_row(image)))
    yield compare("save an image", _each(changed, images.save), save_raw, rounds)
    values = [str(number) for number in range(rounds * 2 + 100)]
    ours = _each(values, lambda value: images.update_metadata(id, {"key": value}))
    theirs = _each(values, lambda value: raw.update_image(id, _setting("metadata", value)))
    yield compare("update_metadata", ours, theirs, rounds)
    ours = _each(values, lambda value: images.update(id, {"custom_data": {"key": value}}))
    theirs = _each(values, lambda value: raw.update_image(id, _setting("customData", value)))
    yield compare("update an image", ours, theirs, rounds)


def _changing(contest: Contest, raw: RawServer, rounds: int, largest: int) -> Iterator[Comparison]:
    sessions, id = contest.persistence.sessions, "rewritten"
    last = _new_session(contest, id, 100)[-2].id
    new = new_messages(rounds * 2 + 100)
    ours = _each(new, lambda message: sessions.rewrite(id, after=last, messages=[message]))
    theirs = _each(new, lambda message: raw.rewrite(id, last, *_message_row(message), now()))
    yield compare("rewrite the last message", ours, theirs, rounds)
    _new_session(contest, "popped", rounds + 100)
    ours = partial(sessions.pop_message, "popped")
    yield compare("pop the last message", ours, lambda: raw.pop("popped", now()), rounds)
    size = min(largest, 10_000)
    _new_session(contest, "forked", size)
    forks = [session(f"fork {number}") for number in range(rounds // 50 + 10)]
    ours = _each(forks, partial(sessions.fork, "forked"))
    theirs = _each(forks, lambda fork: raw.fork("forked", *_session_row(fork)))
    yield compare(f"fork {size:,}", ours, theirs, rounds // 50)


def _listing(contest: Contest, raw: RawServer, rounds: int, number: int) -> Iterator[Comparison]:
    sessions = contest.persistence.sessions
    for start in range(0, number, 1000):
        batch = [
            session(f"listed {n}", container=f"list_{n % _BOXES}", at=_START + n * 100)
            for n in range(start, min(start + 1000, number))
        ]
        contest.fill(sessions, batch)
        raw.save_sessions([_session_row(each) for each in batch])
    page = partial(sessions.find_page, container_id="list_1", order="active", size=20)
    active = partial(raw.active, "list_1", 20)
    yield compare(f"page of 20 by activity among {number:,} sessions", page, active, rounds)
    ids = [f"chat {n}" for n in range(20)]
    for id in ids:
        _new_session(contest, id, 20)
    both = partial(sessions.summaries, ids), partial(raw.summaries, ids)
    yield compare("summaries of 20", *both, rounds)


def _items(contest: Contest, raw: RawServer, rounds: int) -> Iterator[Comparison]:
    items, place = contest.persistence.items, (("box_1", "notes"), "item_2")
    raw_place = "box_1\x1fnotes\x1f", "item_2"
    saved = [_item(number % 50, version=number) for number in range(rounds * 2 + 100)]
    theirs = _each(
        saved, lambda item: raw.save_item(raw_place[0], item.key, item.created_at, _json(item))
    )
    yield compare("put an item", _each(saved, items.save), theirs, rounds)
    both = partial(items.get, *place), partial(raw.get_item, *raw_place)
    yield compare("get an item", *both, rounds)
    values = [str(number) for number in range(rounds * 2 + 100)]
    ours = _each(values, lambda value: items.update(*place, {"value": {"key": value}}))
    theirs = _each(values, lambda value: raw.update_item(*raw_place, _setting("value", value)))
    yield compare("update an item", ours, theirs, rounds)


def _deleting(contest: Contest, rounds: int) -> Iterator[Comparison]:
    ids = [f"doomed_{number}" for number in range(rounds // 20 + 10)]
    for number, id in enumerate(ids):
        image = _image(number).model_copy(update={"image_id": id, "container_id": "doomed"})
        contest.persistence.images.save(image)
        contest.raw.save_image(*_image_row(image))
        _new_session(contest, id, 1_000, id)
    ours = _each(ids, contest.persistence.images.delete)
    raw = _each(ids, contest.raw.delete_image)
    yield compare("delete an image with 1,000 messages", ours, raw, rounds // 20)


def _setting(field: str, value: str) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        document.setdefault(field, {})["key"] = value
        document["updatedAt"] = now()

    return change


def _new_session(contest: Contest, id: str, number: int, image: str = "image") -> list[UserMessage]:
    """Make a session with so many messages on both sides; return the last of them."""
    made, batch = session(id, image=image), list[UserMessage]()
    contest.persistence.sessions.save(made)
    contest.raw.save_session(*_session_row(made))
    for start in range(0, number, 1000):
        batch = new_messages(min(number - start, 1000))
        contest.persistence.sessions.add_messages(id, batch)
        _append_raw(contest, id, *batch)
    return batch


def new_messages(number: int) -> list[UserMessage]:
    return [UserMessage(content=_BODY) for _ in range(number)]


def _append_raw(contest: Contest, session_id: str, *batch: UserMessage) -> None:
    # The raw code is given models, too, and turns them into JSON.
    contest.raw.append(session_id, [_message_row(message) for message in batch], now())


def session(id: str, container: str = "box", image: str = "image", at: int = 0) -> SessionRecord:
    at = at or now()
    return SessionRecord(
        session_id=id, image_id=image, container_id=container, created_at=at, updated_at=at
    )


def _image(number: int, version: int = 0) -> ImageRecord:
    return ImageRecord(
        image_id=f"image_{number}",
        container_id=f"box_{number % _BOXES}",
        session_id="s",
        name=f"name {number % 100}",
        system_prompt="You are a helpful assistant.",
        created_at=_START + number,
        custom_data={"favorite": True, "order": number, "version": version},
    )


def _item(number: int, version: int) -> ItemRecord:
    value = {"text": "x" * 200, "version": version}
    return ItemRecord(namespace=("box_1", "notes"), key=f"item_{number}", value=value)


def _json(record: Any) -> str:
    text: str = record.model_dump_json(exclude_unset=True)
    return text


def _message_row(message: UserMessage) -> tuple[str, str]:
    return message.id, _json(message)


def _session_row(session: SessionRecord) -> Session:
    owners = session.container_id or "", session.image_id or ""
    return session.session_id, *owners, session.created_at, _json(session)


def _image_row(image: ImageRecord) -> Image:
    owner = image.container_id or ""
    return image.image_id, owner, image.name or "", image.created_at, _json(image)


def _each(things: Sequence[T], call: Callable[[T], object]) -> Callable[[], object]:
    following = iter(things).__next__
    return lambda: call(following())
