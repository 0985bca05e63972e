"""What is measured: each operation of this package beside the same one in raw code."""

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

T = TypeVar("T")
# The name, what this package does, what raw code does, and how often.
Operation = tuple[str, Callable[[], object], Callable[[], object], int]

_BODY = "x" * 400  # makes a message of about 500 bytes
_START = 1_700_000_000_000
_SIZES = (0, 100, 1_000, 10_000, 100_000)
_IMAGES = (100, 10_000, 100_000)
_BOXES = 5


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
    doomed = [f"doomed_{number}" for number in range(rounds // 20 + 10)]
    for id in doomed:
        image = _image(0).model_copy(update={"image_id": id, "container_id": "doomed"})
        contest.persistence.images.save(image)
        contest.raw.save_image(*_image_row(image))
        _new_session(contest, id, 1_000, id)
    ours, raw = _each(doomed, contest.persistence.images.delete, contest.raw.delete_image)
    yield "delete an image with 1,000 messages", ours, raw, rounds // 20
    ours = lambda: create_persistence(contest.driver).close()  # noqa: E731
    yield "open a current store", ours, contest.open_raw, rounds // 20


def _messages(contest: Contest, rounds: int, largest: int) -> Iterator[Operation]:
    sessions, raw, most = contest.persistence.sessions, contest.raw, rounds * 2 + 100
    sizes = [size for size in _SIZES if size <= largest]
    for size in sizes:
        id = f"session of {size}"
        _new_session(contest, id, size)
        both = partial(sessions.add_message, id), partial(_append_raw, contest, id)
        yield f"append at {size:,} stored", *_each(new_messages(most), *both), rounds
    _new_session(contest, "empty", 0)
    ours, empty = (
        _each(new_messages(most), partial(sessions.add_message, id))[0] for id in (id, "empty")
    )
    yield f"append at {sizes[-1]:,} stored, against ours at 0", ours, empty, rounds
    if contest.version == "memory":  # elsewhere the rest is far more than that
        both = partial(sessions.add_message, "empty"), UserMessage.to_json
        name = "append at 0 stored, against only its JSON"
        yield name, *_each(new_messages(most), *both), rounds
    batches = [new_messages(100) for _ in range(rounds // 5 + 100)]
    add = partial(sessions.add_messages, "empty")
    both = add, lambda batch: _append_raw(contest, "empty", *batch)
    yield "append a batch of 100", *_each(batches, *both), rounds // 10
    _new_session(contest, "thousand", 1_000)
    both = partial(sessions.get_messages, "thousand"), partial(raw.load, "thousand")
    yield "load 1,000", *both, rounds // 10
    size = min(largest, 10_000)
    id = f"session of {size}"
    both = partial(sessions.get_messages, id, last=50), partial(raw.load, id, 50)
    yield f"last 50 of {size:,}", *both, rounds
    id = f"session of {sizes[-1]}"
    stream = lambda: sum(1 for _ in sessions.iter_messages(id))  # noqa: E731
    yield f"stream {sizes[-1]:,}", stream, partial(raw.stream, id), 5


def _images(contest: Contest, rounds: int, largest: int) -> Iterator[Operation]:
    images, raw, saved = contest.persistence.images, contest.raw, 0
    for size in (size for size in _IMAGES if size <= largest):
        for start in range(saved, size, 1000):
            batch = [_image(number) for number in range(start, min(start + 1000, size))]
            contest.fill(images, batch)
            raw.save_images([_image_row(image) for image in batch])
        saved = size
        page = partial(images.find_page, container_id="box_1", size=20)
        yield f"page of 20 among {size:,} images", page, partial(raw.page, "box_1", 20), rounds
    id = "image_7"
    yield "get an image", partial(images.get, id), partial(raw.get_image, id), rounds
    # Each differs from what is stored: MySQL writes nothing for a row that stays the same.
    changed = [_image(number % 50, version=number) for number in range(rounds * 2 + 100)]
    both = images.save, lambda image: raw.save_image(*_image_row(image))
    yield "save an image", *_each(changed, *both), rounds
    values = [str(number) for number in range(rounds * 2 + 100)]
    ours = lambda value: images.update_metadata(id, {"key": value})  # noqa: E731
    theirs = lambda value: raw.update_image(id, _setting("metadata", value))  # noqa: E731
    yield "update_metadata", *_each(values, ours, theirs), rounds
    ours = lambda value: images.update(id, {"custom_data": {"key": value}})  # noqa: E731
    theirs = lambda value: raw.update_image(id, _setting("customData", value))  # noqa: E731
    yield "update an image", *_each(values, ours, theirs), rounds


def _changes(contest: Contest, rounds: int, largest: int) -> Iterator[Operation]:
    sessions, raw, id = contest.persistence.sessions, contest.raw, "rewritten"
    last = _new_session(contest, id, 100)[-2].id
    ours = lambda message: sessions.rewrite(id, after=last, messages=[message])  # noqa: E731
    theirs = lambda message: raw.rewrite(id, last, *_message_row(message), now())  # noqa: E731
    both = _each(new_messages(rounds * 2 + 100), ours, theirs)
    yield "rewrite the last message", *both, rounds
    _new_session(contest, "popped", rounds + 100)
    both = partial(sessions.pop_message, "popped"), lambda: raw.pop("popped", now())
    yield "pop the last message", *both, rounds
    size = min(largest, 10_000)
    _new_session(contest, "forked", size)
    forks = [session(f"fork {number}") for number in range(rounds // 50 + 10)]
    both = partial(sessions.fork, "forked"), lambda fork: raw.fork("forked", *_session_row(fork))
    yield f"fork {size:,}", *_each(forks, *both), rounds // 50


def _listings(contest: Contest, rounds: int, number: int) -> Iterator[Operation]:
    sessions, raw = contest.persistence.sessions, contest.raw
    for start in range(0, number, 1000):
        batch = [
            session(f"listed {n}", container=f"list_{n % _BOXES}", at=_START + n * 100)
            for n in range(start, min(start + 1000, number))
        ]
        contest.fill(sessions, batch)
        raw.save_sessions([_session_row(each) for each in batch])
    page = partial(sessions.find_page, container_id="list_1", order="active", size=20)
    active = partial(raw.active, "list_1", 20)
    yield f"page of 20 by activity among {number:,} sessions", page, active, rounds
    ids = [f"chat {n}" for n in range(20)]
    for id in ids:
        _new_session(contest, id, 20)
    yield "summaries of 20", partial(sessions.summaries, ids), partial(raw.summaries, ids), rounds


def _items(contest: Contest, rounds: int) -> Iterator[Operation]:
    items, raw, place = contest.persistence.items, contest.raw, (("box_1", "notes"), "item_2")
    namespace, key = raw_place = "box_1\x1fnotes\x1f", "item_2"
    saved = [_item(number % 50, version=number) for number in range(rounds * 2 + 100)]
    theirs = lambda item: raw.save_item(namespace, item.key, item.created_at, _json(item))  # noqa: E731
    yield "put an item", *_each(saved, items.save, theirs), rounds
    yield "get an item", partial(items.get, *place), partial(raw.get_item, *raw_place), rounds
    values = [str(number) for number in range(rounds * 2 + 100)]
    ours = lambda value: items.update(*place, {"value": {"key": value}})  # noqa: E731
    theirs = lambda value: raw.update_item(namespace, key, _setting("value", value))  # noqa: E731
    yield "update an item", *_each(values, ours, theirs), rounds


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


def _session_row(made: SessionRecord) -> tuple[str, str, str, int, str]:
    owners = made.container_id or "", made.image_id or ""
    return made.session_id, *owners, made.created_at, _json(made)


def _image_row(image: ImageRecord) -> tuple[str, str, str, int, str]:
    owner = image.container_id or ""
    return image.image_id, owner, image.name or "", image.created_at, _json(image)


def _each(things: Sequence[T], *calls: Callable[[T], object]) -> list[Callable[[], object]]:
    """Return, for each of these calls, one without arguments that takes the next thing."""

    def taking(call: Callable[[T], object]) -> Callable[[], object]:
        following = iter(things).__next__
        return lambda: call(following())

    return [taking(call) for call in calls]
