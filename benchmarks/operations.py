from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import TypeVar

from agentx_persistence import ImageRecord, Persistence, SessionRecord, UserMessage
from benchmarks.measure import Comparison, compare
from benchmarks.raw.store import RawStore

T = TypeVar("T")

_BODY = "x" * 400  # makes a message of about 500 bytes
_SIZES = (0, 100, 1_000, 10_000, 100_000)


def run(persistence: Persistence, raw: RawStore, rounds: int, largest: int) -> Iterator[Comparison]:
    """Measure every operation; give each result as soon as it is there."""
    yield from _messages(persistence, raw, rounds, largest)
    yield from _images(persistence, raw, rounds, largest)


def _messages(
    persistence: Persistence, raw: RawStore, rounds: int, largest: int
) -> Iterator[Comparison]:
    sessions = persistence.sessions
    for size in (size for size in _SIZES if size <= largest):
        id = f"session of {size}"
        session = SessionRecord(session_id=id, image_id="image", container_id="box")
        sessions.save(session)
        raw.save_session(id, session.to_json())
        for _ in range(0, size, 1000):
            batch = [UserMessage(content=_BODY) for _ in range(min(size, 1000))]
            sessions.add_messages(id, batch)
            raw.append(id, [(m.id, m.to_json()) for m in batch], 0)
        messages = [UserMessage(content=_BODY) for _ in range(rounds * 2 + 100)]
        yield compare(
            f"append at {size:,} stored",
            _next(messages, lambda m, id=id: sessions.add_message(id, m)),  # type: ignore[misc]
            # The raw code is given a model, too, and turns it into JSON.
            _next(
                messages,
                lambda m, id=id: raw.append(id, [(m.id, m.model_dump_json(exclude_unset=True))], 1),
            ),  # type: ignore[misc]
            rounds,
        )
        if size == 1_000:
            persistence.sessions.save(session.model_copy(update={"session_id": "thousand"}))
            raw.save_session("thousand", "{}")
            batch = [UserMessage(content=_BODY) for _ in range(1000)]
            sessions.add_messages("thousand", batch)
            raw.append("thousand", [(m.id, m.to_json()) for m in batch], 0)
            yield compare(
                "load 1,000",
                lambda: sessions.get_messages("thousand"),
                lambda: raw.load("thousand"),
                rounds // 10,
            )
        if size == 10_000:
            yield compare(
                "last 50 of 10,000",
                lambda id=id: sessions.get_messages(id, last=50),  # type: ignore[misc]
                lambda id=id: raw.load(id, 50),  # type: ignore[misc]
                rounds,
            )
    batches = [[UserMessage(content=_BODY) for _ in range(100)] for _ in range(rounds // 5 + 100)]
    yield compare(
        "append a batch of 100",
        _next(batches, lambda batch: sessions.add_messages("session of 0", batch)),
        _next(
            batches,
            lambda batch: raw.append(
                "session of 0", [(m.id, m.model_dump_json(exclude_unset=True)) for m in batch], 1
            ),
        ),
        rounds // 10,
    )


def _images(
    persistence: Persistence, raw: RawStore, rounds: int, largest: int
) -> Iterator[Comparison]:
    saved = 0
    for size in (100, 10_000, 100_000):
        if size > largest:
            break
        for number in range(saved, size):
            image = _image(number)
            persistence.images.save(image)
            _save_raw(raw, image)
        saved = size
        yield compare(
            f"page of 20 among {size:,} images",
            lambda: persistence.images.find_page(container_id="box 1", size=20),
            lambda: raw.page("box 1", 20),
            rounds,
        )
    yield compare(
        "get an image",
        lambda: persistence.images.get("image 7"),
        lambda: raw.get_image("image 7"),
        rounds,
    )
    images = [_image(number % 50) for number in range(rounds * 2)]
    yield compare(
        "save an image",
        _next(images, persistence.images.save),
        _next(images, lambda image: _save_raw(raw, image)),
        rounds,
    )


def _image(number: int) -> ImageRecord:
    return ImageRecord(
        image_id=f"image {number}",
        container_id=f"box {number % 5}",
        session_id="s",
        name=f"name {number % 100}",
        system_prompt="You are a helpful assistant.",
        created_at=1_700_000_000_000 + number,
        custom_data={"favorite": True, "order": number},
    )


def _save_raw(raw: RawStore, image: ImageRecord) -> None:
    text = image.model_dump_json(exclude_unset=True)
    raw.save_image(image.image_id, image.container_id, image.name or "", image.created_at, text)


def _next(things: list[T], call: Callable[[T], object]) -> Callable[[], object]:
    following = itertools.chain(things).__next__
    return lambda: call(following())
