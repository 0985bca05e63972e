"""Writing a session to a file only when it is whole, as others may change it meanwhile."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from tempfile import SpooledTemporaryFile
from typing import IO

from agentx_persistence.errors import RecordConflictError, RecordNotFoundError
from agentx_persistence.storage import SESSIONS, Storage, Stored
from agentx_persistence.transfer import _walking as walking

# How often a session is read at most, if others change its record, or cut or replace messages.
_ATTEMPTS = 5
# How many bytes wait in memory; a longer session waits in a temporary file.
_IN_MEMORY = 8_000_000


class WholeSessions:
    """Writes each session once, though one that is saved or moved meanwhile is listed twice."""

    def __init__(self, storage: Storage, containers: Sequence[str] | None) -> None:
        self._storage, self._containers = storage, containers
        self._written = set[str]()

    def write(
        self, stored: Stored, write: Callable[[Stored, IO[bytes]], int], file: IO[bytes]
    ) -> int | None:
        """Write a session to the file; return what `write` returns.

        Nothing is written, and ``None`` returned, if the session was written before, or is deleted
        or moved out of the containers meanwhile.

        :param write: writes the session to the file that it gets. It is called again if the record
            was changed, or messages were cut or replaced, before it had read all of them
        :raises RecordConflictError: if that happens each time
        """
        if stored.key in self._written:
            return None
        for _ in range(_ATTEMPTS):
            with SpooledTemporaryFile(_IN_MEMORY) as whole:
                try:
                    written = write(stored, whole)
                except RecordNotFoundError:
                    return None
                except RecordConflictError:
                    written = None
                now = self._storage.get(SESSIONS, [stored.key]).get(stored.key)
                if now is None:
                    return None
                if written is not None and walking.raw(now.text) == walking.raw(stored.text):
                    whole.seek(0)
                    shutil.copyfileobj(whole, file)
                    self._written.add(stored.key)
                    return written
            if not self._chosen(now):
                return None
            stored = now
        reason = f"others changed it during {_ATTEMPTS} readings; try again"
        raise RecordConflictError("session", stored.key, reason)

    def _chosen(self, stored: Stored) -> bool:
        fields = walking.document_of(self._storage, SESSIONS, stored).fields
        return self._containers is None or fields.get("container_id") in self._containers
