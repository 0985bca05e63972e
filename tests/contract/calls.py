"""Every call there is, on records of one's own: what threads do who must not disturb each other."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from agentx_persistence import Persistence, RecordConflictError, RecordNotFoundError
from tests.contract.records import container, image, message, session

Call = Callable[[], object]


def all_calls(persistence: Persistence, own: str) -> list[Call]:
    """Return calls that, made in this order, leave nothing behind. Each id and name is `own`.

    Some of them are refused, and one leaves an iterator before its end.
    """
    containers, images, sessions = (
        persistence.containers,
        persistence.images,
        persistence.sessions,
    )
    box = picture = thread = own
    first = message("first", id=own)

    def absent() -> None:
        with suppress(RecordNotFoundError):
            images.get("absent")

    def conflict() -> None:
        with suppress(RecordConflictError):
            sessions.add_message(thread, message("other", id=first.id))

    return [
        persistence.ping,
        lambda: containers.save(container(box)),
        lambda: images.save(image(picture, container_id=box, name=own)),
        lambda: sessions.save(session(thread, image_id=picture, container_id=box)),
        lambda: sessions.add_message(thread, first),
        lambda: sessions.add_message(thread, message()),
        lambda: sessions.add_message(thread, first),
        lambda: sessions.add_messages(thread, [message(), first, message()]),
        conflict,
        absent,
        lambda: containers.get(box),
        lambda: images.find(picture),
        lambda: sessions.get(thread),
        lambda: images.exists("absent"),
        lambda: containers.find_all(limit=3),
        lambda: images.find_all(container_id=box, name=own),
        lambda: sessions.find_all(image_id=picture),
        lambda: images.find_page(name=own, size=2),
        lambda: sessions.find_by_image(picture),
        lambda: images.update_metadata(picture, {"a": own}),
        lambda: sessions.get_messages(thread, last=2),
        lambda: sessions.get_messages(thread, after=first.id, first=1),
        lambda: next(sessions.iter_messages(thread)),
        lambda: list(sessions.iter_messages(thread)),
        lambda: sessions.count_messages(thread),
        lambda: sessions.truncate_after(thread, first.id),
        lambda: sessions.clear_messages(thread),
        lambda: images.delete(picture),
        lambda: sessions.delete(thread),
        lambda: containers.delete(box),
    ]
