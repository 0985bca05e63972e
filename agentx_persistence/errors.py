"""The errors of this package. They form one tree.

An error keeps its facts as ``args``, so that it survives pickling, as between a worker process and
its parent. Its text is built when it is shown. The client library's error, if there is one, is the
``__cause__``.
"""

from __future__ import annotations


class PersistenceError(Exception):
    """Every error that this package raises on purpose."""


class InvalidRecordError(PersistenceError, ValueError):
    """A record, an id or an argument that cannot be accepted. Nothing was written."""

    kind: str
    field: str
    reason: str

    def __init__(self, kind: str, field: str, reason: str) -> None:
        super().__init__(kind, field, reason)
        self.kind, self.field, self.reason = kind, field, reason

    def __str__(self) -> str:
        return f"invalid {self.kind}: {self.field}: {self.reason}"


class RecordNotFoundError(PersistenceError, LookupError):
    """Something that must exist does not."""

    kind: str
    id: str

    def __init__(self, kind: str, id: str) -> None:
        super().__init__(kind, id)
        self.kind, self.id = kind, id

    def __str__(self) -> str:
        return f"there is no {self.kind} with id {self.id!r}"


class RecordConflictError(PersistenceError):
    """The call does not fit what is stored, such as an id that is taken. Nothing was written."""

    kind: str
    id: str
    reason: str
    field: str | None

    def __init__(self, kind: str, id: str, reason: str = "", field: str | None = None) -> None:
        """:param field: where a message differs from the stored one with the same id"""
        super().__init__(kind, id, reason, field)
        self.kind, self.id, self.reason, self.field = kind, id, reason, field

    def __str__(self) -> str:
        if self.reason:
            return f"{self.kind} {self.id!r}: {self.reason}"
        where = f"; the two differ in {self.field}" if self.field else ""
        return f"another {self.kind} has the id {self.id!r}{where}"


class CorruptRecordError(PersistenceError):
    """A stored record that cannot be read back. It was left as it is; `where` says where."""

    kind: str
    id: str
    where: str

    def __init__(self, kind: str, id: str, where: str) -> None:
        super().__init__(kind, id, where)
        self.kind, self.id, self.where = kind, id, where

    def __str__(self) -> str:
        return f"the stored {self.kind} {self.id!r} cannot be read: {self.where}"


class RecordTooLargeError(PersistenceError):
    """The record is larger than the backend takes. It was not sent. Sizes are in bytes."""

    kind: str
    id: str
    size: int
    limit: int

    def __init__(self, kind: str, id: str, size: int, limit: int) -> None:
        super().__init__(kind, id, size, limit)
        self.kind, self.id, self.size, self.limit = kind, id, size, limit

    def __str__(self) -> str:
        return (
            f"the {self.kind} {self.id!r} takes {self.size} bytes, "
            f"the backend accepts at most {self.limit}"
        )


class BackendError(PersistenceError):
    """The backend failed. The error of its client library is the ``__cause__``."""

    backend: str
    reason: str

    def __init__(self, backend: str, reason: str) -> None:
        super().__init__(backend, reason)
        self.backend, self.reason = backend, reason

    def __str__(self) -> str:
        return f"{self.backend}: {self.reason}"


class BackendUnavailableError(BackendError):
    """The backend cannot be reached, the connection was lost, or a wait reached its limit: for a
    lock, a connection, or other writers. The same call may succeed later."""


class ConfigurationError(BackendError):
    """Repeating the call cannot help: a wrong password, a missing database, a wrong option, missing
    rights, or something that this backend cannot do. The message says what to change."""


class SchemaError(PersistenceError):
    """The tables or indexes are missing, outdated, newer than this version of the package, or not
    made by it."""

    problem: str
    remedy: str

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem, remedy)
        self.problem, self.remedy = problem, remedy

    def __str__(self) -> str:
        return f"{self.problem}; {self.remedy}"


class PersistenceClosedError(PersistenceError):
    """The persistence was closed before or during this call."""

    def __str__(self) -> str:
        return "this persistence is closed"


class MissingDependencyError(PersistenceError, ImportError):
    """What a driver or an integration imports is not installed."""

    extra: str
    package: str

    def __init__(self, extra: str, package: str) -> None:
        super().__init__(extra, package)
        self.extra, self.package = extra, package

    def __str__(self) -> str:
        return f"{self.package!r} is not installed: pip install 'agentx-persistence[{self.extra}]'"
