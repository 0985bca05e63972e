"""Changes beside other changes: none is lost."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from agentx_persistence import (
    BackendUnavailableError,
    ConfigurationError,
    ImageRecord,
    Persistence,
    RecordNotFoundError,
    create_persistence,
)
from tests.backends.backend import SHARED, Backend
from tests.contract.records import image, item, message, saved_session
from tests.contract.test_concurrency import in_processes


def test_a_function_may_call_the_persistence_and_runs_again_if_it_was_overtaken(
    persistence: Persistence,
) -> None:
    persistence.images.save(image("i", custom_data={"a": 1}))
    called: list[Any] = []

    def change(old: ImageRecord) -> ImageRecord:
        called.append(old.custom_data)
        if len(called) == 1:
            persistence.images.update("i", {"custom_data": {"b": 2}})
        return old.model_copy(update={"custom_data": {**(old.custom_data or {}), "c": 3}})

    changed = persistence.images.update("i", change)
    assert called == [{"a": 1}, {"a": 1, "b": 2}]
    assert changed.custom_data == {"a": 1, "b": 2, "c": 3}
    assert persistence.images.get("i") == changed


def test_a_change_that_is_always_overtaken_gives_up_in_time(backend: Backend) -> None:
    called: list[int] = []
    with create_persistence(backend.driver(), contention_timeout=0.1) as persistence:
        persistence.images.save(image("i"))

        def change(old: ImageRecord) -> ImageRecord:
            called.append(len(called))
            persistence.images.update("i", {"custom_data": {"overtaken": called[-1]}})
            return old.model_copy(update={"name": "new"})

        with pytest.raises(
            BackendUnavailableError, match=r"image 'i' for 0\.1 s.*contention_timeout"
        ):
            persistence.images.update("i", change)
        found = persistence.images.get("i")
        assert found
        assert found.name == "plan"
        assert found.custom_data == {"overtaken": called[-1]}


def test_messages_that_are_there_already_are_no_contention(backend: Backend) -> None:
    with create_persistence(backend.driver(), contention_timeout=0) as persistence:
        saved_session(persistence)
        first, second = message("first"), message("second")
        assert persistence.sessions.add_message("session", first) == 1
        assert persistence.sessions.add_messages("session", [second, first]) == [2, 1]
        assert persistence.sessions.add_messages("session", [first, second]) == [1, 2]


@pytest.mark.parametrize(
    "wrong", [-1, "1", None, True, float("nan"), float("inf"), pytest.param(10**400, id="huge")]
)
def test_a_wrong_time_for_contention_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="contention_timeout"):
        create_persistence(contention_timeout=wrong)


def test_what_is_deleted_while_its_change_is_made_stays_deleted(persistence: Persistence) -> None:
    persistence.images.save(image("i"))

    def change(old: ImageRecord) -> ImageRecord:
        persistence.images.delete("i")
        return old.model_copy(update={"name": "new"})

    with pytest.raises(RecordNotFoundError):
        persistence.images.update("i", change)
    assert not persistence.images.exists("i")
    assert persistence.images.find_all(name="new") == []


def test_an_append_in_the_midst_of_a_change_is_kept_and_does_not_stop_it(
    persistence: Persistence,
) -> None:
    saved_session(persistence)
    called: list[int] = []

    def change(old: Any) -> Any:
        called.append(persistence.sessions.add_message("session", message()))
        return old.model_copy(update={"note": "new"})

    persistence.sessions.update("session", change)
    assert called == [1]
    assert persistence.sessions.count_messages("session") == 1
    assert persistence.sessions.get("session").model_extra == {"note": "new"}


def _tag(persistence: Persistence, writer: str, number: int) -> None:
    """Add a key to an image by a patch or a function, in turn, and count up in an item."""
    if number % 2:
        persistence.images.update("i", {"custom_data": {f"{writer}:{number}": number}})
    else:
        persistence.images.update(
            "i",
            lambda old: old.model_copy(
                update={"custom_data": {**(old.custom_data or {}), f"{writer}:{number}": number}}
            ),
        )
    persistence.items.update(
        ("box", "state"), "key", lambda old: old.model_copy(update={"value": old.value + 1})
    )


def _check_tags(persistence: Persistence, writers: list[str], each: int) -> None:
    tags = persistence.images.get("i").custom_data
    assert tags == {f"{w}:{number}": number for w in writers for number in range(each)}
    assert persistence.items.get(("box", "state"), "key").value == len(writers) * each
    assert len(persistence.images.find_all(container_id="box")) == 1


def test_sixteen_threads_that_change_one_record_lose_no_change(persistence: Persistence) -> None:
    persistence.images.save(image("i"))
    persistence.items.save(item(value=0))

    def work(writer: int) -> None:
        for number in range(4):
            _tag(persistence, str(writer), number)

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(work, range(16)))
    _check_tags(persistence, [str(writer) for writer in range(16)], 4)


def _tag_in_process(backend: Backend, writer: str) -> None:
    with backend.open() as persistence:
        for number in range(12):
            _tag(persistence, writer, number)


@pytest.mark.needs(SHARED)
def test_four_processes_that_change_one_record_lose_no_change(backend: Backend) -> None:
    with backend.open() as persistence:
        persistence.images.save(image("i"))
        persistence.items.save(item(value=0))
        in_processes(_tag_in_process, *((backend, writer) for writer in "abcd"))
        _check_tags(persistence, list("abcd"), 12)


def test_changes_beside_saves_are_changes_of_what_was_saved(persistence: Persistence) -> None:
    """Each update must see some saved state as a whole, and no save may be half undone by it."""
    persistence.images.save(image("i", container_id="a", name="a", custom_data={"of": "a"}))

    def save(name: str) -> Callable[[], None]:
        def work() -> None:
            for _ in range(15):
                persistence.images.save(
                    image("i", container_id=name, name=name, custom_data={"of": name})
                )

        return work

    def change() -> None:
        for number in range(15):
            changed = persistence.images.update("i", {"custom_data": {"seen": number}})
            of = (changed.custom_data or {})["of"]
            assert changed.container_id == changed.name == of

    with ThreadPoolExecutor(4) as threads:
        for ended in [threads.submit(work) for work in (save("a"), save("b"), change, change)]:
            ended.result()
    last = persistence.images.get("i")
    of = (last.custom_data or {})["of"]
    assert last.container_id == last.name == of
    for name in "ab":
        assert len(persistence.images.find_all(container_id=name, name=name)) == (name == of)
