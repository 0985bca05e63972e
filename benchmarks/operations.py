from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import TypeVar

from agentx_persistence import ImageRecord, SessionRecord, UserMessage, create_persistence
from benchmarks.backends import Contest
from benchmarks.measure import Comparison, compare
from benchmarks.raw.memory import RawMemory

T = TypeVar("T")

_BODY = "x" * 400  # makes a message of about 500 bytes
SIZES = (0, 100, 1_000, 10_000, 100_000)
_BOXES = 5


def count(contest: Contest, largest: int) -> int:
    """Return how many comparisons `run` makes."""
    histories = sum(size <= largest for size in SIZES)
    stores = sum(size <= largest for size in (100, 10_000, 100_000))
    return histories + stores + 10 + isinstance(contest.raw, RawMemory)


def run(contest: Contest, rounds: int, largest: int) -> Iterator[Comparison]:
    """Measure every operation; give each result as soon as it is there."""
    yield from _appending(contest, rounds, largest)
    yield from _reading(contest, rounds, largest)
    yield from _images(contest, rounds, largest)
    yield from _deleting(contest, rounds)
    yield compare(
        "open a current store",
        lambda: create_persistence(contest.driver).close(),
        contest.open_raw,
        rounds // 20,
    )


def _new_messages(number: int) -> list[UserMessage]:
    return [UserMessage(content=_BODY) for _ in range(number)]


def _append_raw(contest: Contest, session_id: str, batch: list[UserMessage]) -> None:
    # The raw code is given models, too, and turns them into JSON.
    contest.raw.append(
        session_id, [(m.id, m.model_dump_json(exclude_unset=True)) for m in batch], 1
    )


def _new_session(contest: Contest, id: str, messages: int, image_id: str = "image") -> None:
    session = SessionRecord(session_id=id, image_id=image_id, container_id="box")
    contest.persistence.sessions.save(session)
    contest.raw.save_session(id, image_id, session.to_json())
    for start in range(0, messages, 1000):
        batch = _new_messages(min(messages - start, 1000))
        contest.persistence.sessions.add_messages(id, batch)
        _append_raw(contest, id, batch)


def _append(contest: Contest, id: str, messages: list[UserMessage]) -> Callable[[], object]:
    return _next(messages, lambda message: contest.persistence.sessions.add_message(id, message))


def _appending(contest: Contest, rounds: int, largest: int) -> Iterator[Comparison]:
    sizes = [size for size in SIZES if size <= largest]
    for size in sizes:
        id = f"session of {size}"
        _new_session(contest, id, size)
        messages = _new_messages(rounds * 2 + 100)
        raw = _next(messages, lambda m, id=id: _append_raw(contest, id, [m]))  # type: ignore[misc]
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
            _next(_new_messages(rounds * 2 + 100), UserMessage.to_json),
            rounds,
        )
    batches = [_new_messages(100) for _ in range(rounds // 5 + 100)]
    yield compare(
        "append a batch of 100",
        _next(batches, lambda batch: contest.persistence.sessions.add_messages("empty", batch)),
        _next(batches, lambda batch: _append_raw(contest, "empty", batch)),
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
    for size in (size for size in (100, 10_000, 100_000) if size <= largest):
        for start in range(saved, size, 1000):
            batch = [_image(number) for number in range(start, min(start + 1000, size))]
            contest.fill(batch)
            raw.save_images([_row(image) for image in batch])
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
    changed = [_image(number % 50, version=number) for number in range(rounds * 2)]
    yield compare(
        "save an image",
        _next(changed, images.save),
        _next(changed, lambda image: _save_raw(contest, image)),
        rounds,
    )
    values = [str(number) for number in range(rounds * 2 + 100)]
    yield compare(
        "update_metadata",
        _next(values, lambda value: images.update_metadata("image_7", {"key": value})),
        _next(values, lambda value: raw.update_metadata("image_7", "key", value)),
        rounds,
    )


def _deleting(contest: Contest, rounds: int) -> Iterator[Comparison]:
    ids = [f"doomed_{number}" for number in range(rounds // 20 + 10)]
    for number, id in enumerate(ids):
        image = _image(number).model_copy(update={"image_id": id, "container_id": "doomed"})
        contest.persistence.images.save(image)
        _save_raw(contest, image)
        _new_session(contest, id, 1_000, id)
    yield compare(
        "delete an image with 1,000 messages",
        _next(ids, contest.persistence.images.delete),
        _next(ids, contest.raw.delete_image),
        rounds // 20,
    )


def _image(number: int, version: int = 0) -> ImageRecord:
    return ImageRecord(
        image_id=f"image_{number}",
        container_id=f"box_{number % _BOXES}",
        session_id="s",
        name=f"name {number % 100}",
        system_prompt="You are a helpful assistant.",
        created_at=1_700_000_000_000 + number,
        custom_data={"favorite": True, "order": number, "version": version},
    )


def _row(image: ImageRecord) -> tuple[str, str, str, int, str]:
    text = image.model_dump_json(exclude_unset=True)
    return image.image_id, image.container_id, image.name or "", image.created_at, text


def _save_raw(contest: Contest, image: ImageRecord) -> None:
    contest.raw.save_image(*_row(image))


def _next(things: list[T], call: Callable[[T], object]) -> Callable[[], object]:
    following = itertools.chain(things).__next__
    return lambda: call(following())
