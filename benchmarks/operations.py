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
    sizes = [size for size in _SIZES if size <= largest]
    for size in sizes:
        id = f"session of {size}"
        _new_session(contest, id, size)
        messages = _new_messages(rounds * 2 + 100)
        raw = _each(messages, partial(_append_raw, contest, id))
        yield compare(f"append at {size:,} stored", _append(contest, id, messages), raw, rounds)
    _new_session(contest, "empty", 0)
    yield compare(
        f"append at {sizes[-1]:,} stored, against ours at 0",
        _append(contest, f"session of {sizes[-1]}", _new_messages(rounds * 2 + 100)),
        _append(contest, "empty", _new_messages(rounds * 2 + 100)),
        rounds,
    )
    if isinstance(contest.raw, RawMemory):  # elsewhere the rest is far more than that
        yield compare(
            "append at 0 stored, against only its JSON",
            _append(contest, "empty", _new_messages(rounds * 2 + 100)),
            _each(_new_messages(rounds * 2 + 100), UserMessage.to_json),
            rounds,
        )
    batches = [_new_messages(100) for _ in range(rounds // 5 + 100)]
    yield compare(
        "append a batch of 100",
        _each(batches, partial(contest.persistence.sessions.add_messages, "empty")),
        _each(batches, lambda batch: _append_raw(contest, "empty", *batch)),
        rounds // 10,
    )


def _reading(contest: Contest, rounds: int, largest: int) -> Iterator[Comparison]:
    sessions, raw = contest.persistence.sessions, contest.raw
    _new_session(contest, "thousand", 1_000)
    yield compare(
        "load 1,000",
        lambda: sessions.get_messages("thousand"),
        lambda: raw.load("thousand"),
        rounds // 10,
    )
    ten_thousand = f"session of {min(largest, 10_000)}"
    yield compare(
        f"last 50 of {min(largest, 10_000):,}",
        lambda: sessions.get_messages(ten_thousand, last=50),
        lambda: raw.load(ten_thousand, 50),
        rounds,
    )
    longest = f"session of {min(largest, 100_000)}"
    yield compare(
        f"stream {min(largest, 100_000):,}",
        lambda: sum(1 for _ in sessions.iter_messages(longest)),
        lambda: raw.stream(longest),
        5,
    )


def _images(contest: Contest, rounds: int, largest: int) -> Iterator[Comparison]:
    images, raw = contest.persistence.images, contest.raw
    saved = 0
    for size in (size for size in _IMAGES if size <= largest):
        for start in range(saved, size, 1000):
            batch = [_image(number) for number in range(start, min(start + 1000, size))]
            contest.fill(images, batch)
            raw.save_images([_image_row(image) for image in batch])
        saved = size
        yield compare(
            f"page of 20 among {size:,} images",
            lambda: images.find_page(container_id="box_1", size=20),
            lambda: raw.page("box_1", 20),
            rounds,
        )
    yield compare(
        "get an image", lambda: images.get("image_7"), lambda: raw.get_image("image_7"), rounds
    )
    # Each differs from what is stored: MySQL writes nothing for a row that stays the same.
    changed = [_image(number % 50, version=number) for number in range(rounds * 2 + 100)]
    yield compare(
        "save an image",
        _each(changed, images.save),
        _each(changed, lambda image: raw.save_image(*_image_row(image))),
        rounds,
    )
    values = [str(number) for number in range(rounds * 2 + 100)]
    for operation, field, update in (
        ("update_metadata", "metadata", images.update_metadata),
        ("update an image", "customData", _update_image(contest)),
    ):
        yield compare(
            operation,
            _each(values, lambda value, update=update: update("image_7", {"key": value})),  # type: ignore[misc]
            _each(
                values,
                lambda value, field=field: raw.update_image(
                    "image_7", _changing_json(field, value)
                ),  # type: ignore[misc]
            ),
            rounds,
        )


def _update_image(contest: Contest) -> Callable[[str, dict[str, str]], object]:
    update = contest.persistence.images.update
    return lambda id, changes: update(id, {"custom_data": changes})


def _changing(contest: Contest, raw: RawServer, rounds: int, largest: int) -> Iterator[Comparison]:
    sessions = contest.persistence.sessions
    (*_, last, _) = _new_session(contest, "rewritten", 100)
    messages = _new_messages(rounds * 2 + 100)
    yield compare(
        "rewrite the last message",
        _each(messages, lambda m: sessions.rewrite("rewritten", after=last.id, messages=[m])),
        _each(messages, lambda m: raw.rewrite("rewritten", last.id, *_message_row(m), now())),
        rounds,
    )
    _new_session(contest, "popped", rounds + 100)
    yield compare(
        "pop the last message",
        lambda: sessions.pop_message("popped"),
        lambda: raw.pop("popped", now()),
        rounds,
    )
    size = min(largest, 10_000)
    _new_session(contest, "forked", size)
    forks = [_session(f"fork {number}") for number in range(rounds // 50 + 10)]
    yield compare(
        f"fork {size:,}",
        _each(forks, lambda fork: sessions.fork("forked", fork)),
        _each(forks, lambda fork: raw.fork("forked", *_session_row(fork))),
        rounds // 50,
    )


def _listing(contest: Contest, raw: RawServer, rounds: int, number: int) -> Iterator[Comparison]:
    sessions = contest.persistence.sessions
    for start in range(0, number, 1000):
        batch = [
            _session(f"listed {n}", container=f"list_{n % _BOXES}", at=_START + n * 100)
            for n in range(start, min(start + 1000, number))
        ]
        contest.fill(sessions, batch)
        raw.save_sessions([_session_row(session) for session in batch])
    yield compare(
        f"page of 20 by activity among {number:,} sessions",
        lambda: sessions.find_page(container_id="list_1", order="active", size=20),
        lambda: raw.active("list_1", 20),
        rounds,
    )
    ids = [f"chat {n}" for n in range(20)]
    for id in ids:
        _new_session(contest, id, 20)
    yield compare(
        "summaries of 20", lambda: sessions.summaries(ids), lambda: raw.summaries(ids), rounds
    )


def _items(contest: Contest, raw: RawServer, rounds: int) -> Iterator[Comparison]:
    items, namespace = contest.persistence.items, "box_1\x1fnotes\x1f"
    saved = [_item(number % 50, version=number) for number in range(rounds * 2 + 100)]
    yield compare(
        "put an item",
        _each(saved, items.save),
        _each(
            saved,
            lambda item: raw.save_item(namespace, item.key, item.created_at, _json(item)),
        ),
        rounds,
    )
    yield compare(
        "get an item",
        lambda: items.get(("box_1", "notes"), "item_2"),
        lambda: raw.get_item(namespace, "item_2"),
        rounds,
    )
    values = [str(number) for number in range(rounds * 2 + 100)]
    yield compare(
        "update an item",
        _each(values, lambda v: items.update(("box_1", "notes"), "item_2", {"value": {"key": v}})),
        _each(values, lambda v: raw.update_item(namespace, "item_2", _changing_json("value", v))),
        rounds,
    )


def _deleting(contest: Contest, rounds: int) -> Iterator[Comparison]:
    ids = [f"doomed_{number}" for number in range(rounds // 20 + 10)]
    for number, id in enumerate(ids):
        image = _image(number).model_copy(update={"image_id": id, "container_id": "doomed"})
        contest.persistence.images.save(image)
        contest.raw.save_image(*_image_row(image))
        _new_session(contest, id, 1_000, id)
    yield compare(
        "delete an image with 1,000 messages",
        _each(ids, contest.persistence.images.delete),
        _each(ids, contest.raw.delete_image),
        rounds // 20,
    )


def _changing_json(field: str, value: str) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        document.setdefault(field, {})["key"] = value
        document["updatedAt"] = now()

    return change


def _new_session(contest: Contest, id: str, number: int, image: str = "image") -> list[UserMessage]:
    """Make a session with so many messages on both sides; return the last of them."""
    session, batch = _session(id, image=image), list[UserMessage]()
    contest.persistence.sessions.save(session)
    contest.raw.save_session(*_session_row(session))
    for start in range(0, number, 1000):
        batch = _new_messages(min(number - start, 1000))
        contest.persistence.sessions.add_messages(id, batch)
        _append_raw(contest, id, *batch)
    return batch


def _new_messages(number: int) -> list[UserMessage]:
    return [UserMessage(content=_BODY) for _ in range(number)]


def _append(contest: Contest, id: str, messages: list[UserMessage]) -> Callable[[], object]:
    return _each(messages, partial(contest.persistence.sessions.add_message, id))


def _append_raw(contest: Contest, session_id: str, *batch: UserMessage) -> None:
    # The raw code is given models, too, and turns them into JSON.
    contest.raw.append(session_id, [_message_row(message) for message in batch], now())


def _session(id: str, container: str = "box", image: str = "image", at: int = 0) -> SessionRecord:
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
