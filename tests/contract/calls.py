"""All calls, on records of the caller's own: threads make them and must not disturb each other."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from agentx_persistence import Persistence, RecordConflictError, RecordNotFoundError
from tests.contract.records import container, image, item, message, session

Call = Callable[[], object]


def all_calls(persistence: Persistence, own: str) -> list[Call]:
    """Return calls that, made in this order, leave nothing behind. Each id and name is `own`.

    Some of them are refused, and one leaves an iterator before its end.
    """
    containers, images, sessions, items = (
        persistence.containers,
        persistence.images,
        persistence.sessions,
        persistence.items,
    )
    box = picture = thread = own
    # Ids may have 255 characters, and so this one leaves some for what makes it another id.
    branch = f"{own[:200]} branch"
    first = message("first", id=own)

    def absent() -> None:
        with suppress(RecordNotFoundError):
            images.get("absent")

    def conflict() -> None:
        with suppress(RecordConflictError):
            sessions.add_message(thread, message("other", id=first.id))

    def taken() -> None:
        with suppress(RecordConflictError):
            images.create(image(picture, container_id=box))

    def create() -> None:
        with suppress(RecordConflictError):  # if these calls are not made for the first time
            items.create(item((box, "state", "deeper"), own, value=own.encode()))

    def overtaken() -> None:
        with suppress(RecordConflictError):
            sessions.add_message(thread, message(), expected=99)

    def out_of_date() -> None:
        messages = sessions.iter_messages(thread)
        next(messages)
        sessions.rewrite(thread, after=None, messages=[first, message()])
        with suppress(RecordConflictError):
            list(messages)

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
        overtaken,
        absent,
        taken,
        lambda: containers.update(box, {"config": {"a": own}}),
        lambda: images.update(picture, lambda old: old.model_copy(update={"model": own})),
        lambda: sessions.update(thread, {"note": own}),
        lambda: items.save(item((box, "state"), own, value={"a": own})),
        lambda: items.update((box, "state"), own, {"value": {"b": own}}),
        create,
        lambda: containers.get(box),
        lambda: images.find(picture),
        lambda: sessions.get(thread),
        lambda: images.exists("absent"),
        lambda: containers.find_all(limit=3),
        lambda: images.find_all(container_id=box, name=own),
        lambda: sessions.find_all(image_id=picture),
        lambda: images.find_page(name=own, size=2),
        lambda: sessions.find_by_image(picture),
        lambda: images.find_many([picture, "absent"]),
        lambda: images.count(container_id=box, name=own),
        lambda: sessions.find_all(container_id=box, order="active", since=0),
        lambda: sessions.find_page(image_id=picture, order="oldest", size=1),
        lambda: sessions.summaries([thread, "absent"]),
        lambda: items.get((box, "state"), own),
        lambda: items.find_many([((box, "state"), own), ((box,), "absent")]),
        lambda: items.find_all(namespace_prefix=(box,)),
        lambda: items.find_page(namespace=(box, "state"), order="newest", size=1),
        lambda: items.count(namespace_prefix=(box,)),
        lambda: images.update_metadata(picture, {"a": own}),
        lambda: sessions.get_messages(thread, last=2),
        lambda: sessions.get_messages(thread, after=first.id, first=1),
        lambda: next(sessions.iter_messages(thread)),
        lambda: list(sessions.iter_messages(thread)),
        lambda: sessions.count_messages(thread),
        lambda: sessions.find_message(thread, first.id),
        lambda: list(sessions.iter_messages(thread, after=first.id, reverse=True)),
        lambda: sessions.replace_message(thread, message("first again", id=first.id)),
        lambda: sessions.fork(thread, session(branch, container_id=box), through=first.id),
        lambda: sessions.add_message(branch, message(), create=session(branch), expected=1),
        lambda: sessions.rewrite(thread, after=first.id, messages=[message(), message()]),
        lambda: sessions.pop_message(thread),
        out_of_date,
        lambda: sessions.truncate_after(thread, first.id),
        lambda: sessions.clear_messages(thread),
        lambda: images.delete(picture),
        lambda: items.delete((box, "state"), own),
        lambda: sessions.delete(thread),
        lambda: containers.delete(box),
    ]
