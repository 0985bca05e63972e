from __future__ import annotations

import pickle

import pytest

from agentx_persistence import errors

ERRORS = [
    (errors.InvalidRecordError("image", "name", "is too long"), ValueError, "name: is too long"),
    (errors.RecordNotFoundError("session", "s 1"), LookupError, "no session with id 's 1'"),
    (errors.RecordConflictError("message", "m"), errors.PersistenceError, "message has the id 'm'"),
    (
        errors.RecordConflictError("message", "m", field="content"),
        errors.PersistenceError,
        "another message has the id 'm'; the two differ in content",
    ),
    (
        errors.RecordConflictError("session", "s", "it has 1 message"),
        errors.PersistenceError,
        "session 's': it has 1 message",
    ),
    (
        errors.CorruptRecordError("image", "i", "table images"),
        errors.PersistenceError,
        "image 'i' cannot be read: table images",
    ),
    (
        errors.RecordTooLargeError("message", "m", 17, 16),
        errors.PersistenceError,
        "takes 17 bytes, the backend accepts at most 16",
    ),
    (errors.BackendError("redis", "broke"), errors.PersistenceError, "redis: broke"),
    (errors.BackendUnavailableError("mysql", "db"), errors.BackendError, "mysql: db"),
    (errors.ConfigurationError("mysql", "no rights"), errors.BackendError, "mysql: no rights"),
    (errors.SchemaError("no tables", "run: x"), errors.PersistenceError, "no tables; run: x"),
    (errors.PersistenceClosedError(), errors.PersistenceError, "closed"),
    (
        errors.MissingDependencyError("redis", "redis"),
        ImportError,
        "pip install 'agentx-persistence[redis]'",
    ),
]


@pytest.mark.parametrize(("error", "family", "text"), ERRORS, ids=lambda part: type(part).__name__)
def test_an_error_builds_its_sentence_and_belongs_to_a_family(
    error: errors.PersistenceError, family: type[BaseException], text: str
) -> None:
    assert isinstance(error, family)
    assert isinstance(error, errors.PersistenceError)
    assert text in str(error)


@pytest.mark.parametrize("error", [error for error, _, _ in ERRORS], ids=lambda e: type(e).__name__)
def test_an_error_reaches_another_process_whole(error: errors.PersistenceError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


def test_every_error_is_listed_here() -> None:
    def below(error: type[BaseException]) -> set[type[BaseException]]:
        return {error}.union(*(below(child) for child in error.__subclasses__()))

    public = {
        error for error in below(errors.PersistenceError) if error.__module__ == errors.__name__
    }
    assert public - {errors.PersistenceError} == {type(error) for error, _, _ in ERRORS}
