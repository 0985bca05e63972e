"""What is measured: each operation of this package beside the same one in raw code."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import count
from typing import Any

from agentx_persistence import ImageRecord, ItemRecord, SessionRecord, UserMessage
from agentx_persistence.records import now
from benchmarks.backends import Contest
from benchmarks.measure import Operation

_BODY = "x" * 400  # makes a message of about 500 bytes
_START = 1_700_000_000_000
_SIZES = (0, 100, 1_000, 10_000, 100_000)
_IMAGES = (100, 10_000, 100_000)
_BOXES = 5
_NAMESPACE = "box_1\x1fnotes\x1f"


def operations(
    contest: Contest, rounds: int, largest: int, sessions: int = 1_000
) -> Iterator[Operation]:
    """Yield each operation once its data is there; it is called before the next one is taken."""
    yield from _messages(contest, rounds, largest)
    yield from _images(contest, rounds, largest)
    if hasattr(contest.raw, "rewrite"):  # the raw code of databases can do more
        yield from _changes(contest, rounds, largest)
        yield from _listings(contest, rounds, sessions)
        yield from _items(contest, rounds)
    doomed = [_image(number, "doomed") for number in range(-rounds // 20 - 10, 0)]
    for image in doomed:
        contest.save("images", image, _row(image))
        _new_session(contest, image.image_id, 1_000, image.image_id)
    both = contest.persistence.images.delete, contest.raw.delete_image
    ids = (image.image_id for image in doomed)
    yield Operation("delete an image with 1,000 messages", *both, rounds // 20, ids.__next__)
    yield Operation("open a current store", contest.open_ours, contest.open_raw, rounds // 20)


def _messages(contest: Contest, rounds: int, largest: int) -> Iterator[Operation]:
    sessions, raw = contest.persistence.sessions, contest.raw
    sizes = [size for size in _SIZES if size <= largest]
    for size in sizes:
        id = f"session of {size}"
        _new_session(contest, id, size)
        both = partial(sessions.add_message, id), partial(_append, raw, id)
        yield Operation(f"append at {size:,} stored", *both, rounds, new_message)
    _new_session(contest, "empty", 0)
    name = f"append at {sizes[-1]:,} stored, against ours at 0"
    empty = partial(sessions.add_message, "empty")
    yield Operation(name, both[0], empty, rounds, new_message)
    if contest.version == "memory":  # elsewhere the rest is far more than that
        name = "append at 0 stored, against only its JSON"
        yield Operation(name, empty, UserMessage.to_json, rounds, new_message)
    both = partial(sessions.add_messages, "empty"), lambda batch: _append(raw, "empty", *batch)
    batch = lambda: [new_message() for _ in range(100)]  # noqa: E731
    yield Operation("append a batch of 100", *both, rounds // 10, batch)
    _new_session(contest, "thousand", 1_000)
    both = partial(sessions.get_messages, "thousand"), partial(raw.load, "thousand")
    yield Operation("load 1,000", *both, rounds // 10)
    size = min(largest, 10_000)
    long = f"session of {size}"
    both = partial(sessions.get_messages, long, last=50), partial(raw.load, long, 50)
    yield Operation(f"last 50 of {size:,}", *both, rounds)
    both = lambda: sum(1 for _ in sessions.iter_messages(id)), partial(raw.stream, id)
    yield Operation(f"stream {sizes[-1]:,}", *both, 5)


def _images(contest: Contest, rounds: int, largest: int) -> Iterator[Operation]:
    images, raw, saved = contest.persistence.images, contest.raw, 0
    for size in (size for size in _IMAGES if size <= largest):
        for image in map(_image, range(saved, size)):
            contest.save("images", image, _row(image))
        saved = size
        page = partial(images.find_page, container_id="box_1", size=20)
        name = f"page of 20 among {size:,} images"
        yield Operation(name, page, partial(raw.page, "images", "box_1", 20), rounds)
    id, numbers = "image_7", count()
    yield Operation("get an image", partial(images.get, id), partial(raw.get, "images", id), rounds)

    def changed() -> ImageRecord:
        # Each differs from what is stored: MySQL writes nothing for a row that stays the same.
        number = next(numbers)
        return _image(number % 50, version=number)

    save = lambda image: raw.save("images", *_row(image))  # noqa: E731
    yield Operation("save an image", images.save, save, rounds, changed)
    ours = lambda value: images.update_metadata(id, {"key": value})  # noqa: E731
    theirs = lambda value: raw.update("images", id, "metadata", value, now())  # noqa: E731
    yield Operation("update_metadata", ours, theirs, rounds, lambda: str(next(numbers)))
    ours = lambda value: images.update(id, {"custom_data": {"key": value}})  # noqa: E731
    theirs = lambda value: raw.update("images", id, "customData", value, now())  # noqa: E731
    yield Operation("update an image", ours, theirs, rounds, lambda: str(next(numbers)))


def _changes(contest: Contest, rounds: int, largest: int) -> Iterator[Operation]:
    sessions, raw, id = contest.persistence.sessions, contest.raw, "rewritten"
    last = _new_session(contest, id, 100)[-2].id
    ours = lambda message: sessions.rewrite(id, after=last, messages=[message])  # noqa: E731
    theirs = lambda message: raw.rewrite(id, last, *_message_row(message), now())  # noqa: E731
    yield Operation("rewrite the last message", ours, theirs, rounds, new_message)
    _new_session(contest, "popped", rounds + 100)
    pop = partial(sessions.pop_message, "popped"), lambda: raw.pop("popped", now())
    yield Operation("pop the last message", *pop, rounds)
    size, numbers = min(largest, 10_000), count()
    _new_session(contest, "forked", size)
    fork = partial(sessions.fork, "forked"), lambda new: raw.fork("forked", *_row(new))
    new = lambda: session(f"fork {next(numbers)}")  # noqa: E731
    yield Operation(f"fork {size:,}", *fork, rounds // 50, new)


def _listings(contest: Contest, rounds: int, number: int) -> Iterator[Operation]:
    sessions, raw = contest.persistence.sessions, contest.raw
    for n in range(number):
        at, box = _START + n * 100, f"list_{n % _BOXES}"
        made = session(f"listed {n}", container_id=box, created_at=at, updated_at=at)
        contest.save("sessions", made, _row(made))
    page = partial(sessions.find_page, container_id="list_1", order="active", size=20)
    name = f"page of 20 by activity among {number:,} sessions"
    yield Operation(name, page, partial(raw.page, "sessions", "list_1", 20), rounds)
    ids = [f"chat {n}" for n in range(20)]
    for id in ids:
        _new_session(contest, id, 20)
    both = partial(sessions.summaries, ids), partial(raw.summaries, ids)
    yield Operation("summaries of 20", *both, rounds)


def _items(contest: Contest, rounds: int) -> Iterator[Operation]:
    items, raw, numbers = contest.persistence.items, contest.raw, count()
    place, raw_place = (("box_1", "notes"), "item_2"), ("items", f"{_NAMESPACE}item_2")

    def item() -> ItemRecord:
        number = next(numbers)
        value = {"text": "x" * 200, "version": number}
        return ItemRecord(namespace=place[0], key=f"item_{number % 50}", value=value)

    save = lambda item: raw.save("items", *_row(item))  # noqa: E731
    yield Operation("put an item", items.save, save, rounds, item)
    both = partial(items.get, *place), partial(raw.get, *raw_place)
    yield Operation("get an item", *both, rounds)
    ours = lambda value: items.update(*place, {"value": {"key": value}})  # noqa: E731
    theirs = lambda value: raw.update(*raw_place, "value", value, now())  # noqa: E731
    yield Operation("update an item", ours, theirs, rounds, lambda: str(next(numbers)))


def _new_session(contest: Contest, id: str, number: int, image: str = "image") -> list[UserMessage]:
    """Make a session with so many messages on both sides; return the last of them."""
    made, batch = session(id, image_id=image), list[UserMessage]()
    contest.save("sessions", made, _row(made))
    for start in range(0, number, 1000):
        batch = [new_message() for _ in range(min(number - start, 1000))]
        contest.persistence.sessions.add_messages(id, batch)
        _append(contest.raw, id, *batch)
    return batch


def new_message() -> UserMessage:
    return UserMessage(content=_BODY)


def _append(raw: Any, session_id: str, *batch: UserMessage) -> None:
    # The raw code is given models, too, and turns them into JSON.
    raw.append(session_id, [_message_row(message) for message in batch], now())


def session(id: str, **given: Any) -> SessionRecord:
    return SessionRecord(session_id=id, **{"container_id": "box", "image_id": "image", **given})


def _image(number: int, container_id: str = "", version: int = 0) -> ImageRecord:
    return ImageRecord(
        image_id=f"image_{number}",
        container_id=container_id or f"box_{number % _BOXES}",
        session_id="s",
        name=f"name {number % 100}",
        system_prompt="You are a helpful assistant.",
        created_at=_START + number,
        custom_data={"favorite": True, "order": number, "version": version},
    )


def _message_row(message: UserMessage) -> tuple[str, str]:
    return message.id, message.model_dump_json(exclude_unset=True)


def _row(record: Any) -> tuple[Any, ...]:
    """Return a record as raw code is given it: key, text, time and two owners."""
    if isinstance(record, ImageRecord):
        key, *owners = record.image_id, record.container_id, record.name
    elif isinstance(record, SessionRecord):
        key, *owners = record.session_id, record.container_id, record.image_id
    else:
        key, *owners = _NAMESPACE + record.key, _NAMESPACE, ""
    return key, record.model_dump_json(exclude_unset=True), record.created_at, *owners
