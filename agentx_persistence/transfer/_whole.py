"""Writing a session to a file only when it is whole, as others may change it meanwhile."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from tempfile import SpooledTemporaryFile
from typing import IO

from agentx_persistence.errors import RecordConflictError, RecordNotFoundError
from agentx_persistence.storage import SESSIONS, Storage, Stored

# How often a session is read at most, if others cut or replace messages meanwhile.
_ATTEMPTS = 5
# How many bytes wait in memory; a longer session waits in a temporary file.
_IN_MEMORY = 8_000_000


def write_session(
    storage: Storage, stored: Stored, write: Callable[[Stored, IO[bytes]], int], file: IO[bytes]
) -> int | None:
    """Write a session to the file; return what `write` returns.

    Nothing is written, and ``None`` returned, if the session is deleted meanwhile.

    :param write: writes the session to the file that it gets. It is called again if messages were
        cut or replaced before it had read all of them
    :raises RecordConflictError: if that happens each time
    """
    found: Stored | None = stored
    for left in reversed(range(_ATTEMPTS)):
        if found is None:
            return None
        with SpooledTemporaryFile(_IN_MEMORY) as whole:
            try:
                written = write(found, whole)
            except RecordNotFoundError:
                return None
            except RecordConflictError:
                if not left:
                    raise
                found = storage.get(SESSIONS, [stored.key]).get(stored.key)
                continue
            whole.seek(0)
            shutil.copyfileobj(whole, file)
            return written
    raise AssertionError
