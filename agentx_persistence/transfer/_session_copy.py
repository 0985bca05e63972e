"""Writing one session to the target of a copy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

from agentx_persistence.errors import RecordConflictError, RecordNotFoundError
from agentx_persistence.storage import SESSIONS, Document, Entry, Storage
from agentx_persistence.transfer import _walking as walking
from agentx_persistence.transfer.reports import CopyReport

_P = ParamSpec("_P")
_T = TypeVar("_T")


class SessionCopy:
    """A session of the target, which has the first `kept` messages of the source's.

    It writes nothing more once somebody else has written to the session, or deleted it; `ended`
    tells. The comparison at the end of the copy finds what is missing.
    """

    def __init__(self, target: Storage, report: CopyReport, log: str, at: int, kept: int) -> None:
        self._target, self._report, self._log, self._at = target, report, log, at
        self._position = kept
        self.ended = False

    def create(self, document: Document) -> None:
        self._write(self._target.create, SESSIONS, document)
        self._wrote()

    def cut(self) -> None:
        """Remove all messages but those that are kept."""
        self._write(self._target.rewrite, self._log, self._position, (), self._at, walking.token())
        self._report.rewritten += not self.ended

    def append(self, entries: Sequence[Entry]) -> None:
        added = self._write(
            self._target.append, self._log, entries, self._at, expected=self._position
        )
        if isinstance(added, int):
            self._position = added
            self._report.messages += len(entries)
        else:
            self.ended = True

    def replace(self, document: Document) -> None:
        self._write(self._target.put, SESSIONS, document)
        self._wrote()

    def _wrote(self) -> None:
        if not self.ended:
            self._report.wrote(SESSIONS.name)

    def _write(self, call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T | None:
        if self.ended:
            return None
        try:
            return call(*args, **kwargs)
        except (RecordConflictError, RecordNotFoundError):
            self.ended = True
            return None
