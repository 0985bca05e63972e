"""Finding all the records of a store by its files."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

from agentx_persistence._fs.logs import Logs
from agentx_persistence._fs.records import Records, Row, parse_record
from agentx_persistence.errors import CorruptRecordError, RecordNotFoundError
from agentx_persistence.storage import KINDS, SESSIONS, Kind

_LOGGER = logging.getLogger("agentx_persistence")


def scan(records: Records, logs: Logs) -> Iterator[tuple[Kind, Row, bool]]:
    """Yield the kind and the row of each record of the store, and whether the row is sure.

    The row of a hidden record is not sure: it only leads a repeated deletion to the record.
    """
    for kind in KINDS:
        for folder in records.folders(kind):
            for name in os.listdir(folder):
                hidden = name.endswith(".json.hidden")
                if hidden and os.path.exists(f"{folder}/{name.removesuffix('.hidden')}"):
                    continue  # the record was saved again meanwhile
                if hidden or name.endswith(".json"):
                    row = _scanned(records, logs, kind, f"{folder}/{name}")
                    if row is not None:
                        yield kind, row, not hidden


def _scanned(records: Records, logs: Logs, kind: Kind, path: str) -> Row | None:
    """Return the row of the record file at this path, or ``None`` if the file is no record."""
    try:
        with open(path, "rb", buffering=0) as file:
            record = parse_record(file.readall())
        if record is not None and path.startswith(records.path(kind, record.key)):
            logged = kind is SESSIONS and path.endswith(".json")
            at = logs.scanned_at(record) if logged else record.updated_at
            return record.row(kind, at)
    except (OSError, CorruptRecordError, RecordNotFoundError) as error:
        _LOGGER.warning("%s is not listed: %s", path, error)
    else:
        _LOGGER.warning("%s is not listed: it is damaged, or not a record of this store", path)
    return None
