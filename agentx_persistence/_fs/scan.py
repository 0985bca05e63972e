"""Finding all the records of a store by its files."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import suppress

from agentx_persistence._fs.log import read_header
from agentx_persistence._fs.logs import Logs
from agentx_persistence._fs.records import Records, Row, parse_record
from agentx_persistence.errors import CorruptRecordError, RecordNotFoundError
from agentx_persistence.storage import KINDS, SESSIONS, Kind, Trace

_LOGGER = logging.getLogger("agentx_persistence")
_OURS = re.compile(r"[0-9a-f]{38}\.(json|json\.hidden|jsonl)")


def scan(base: str, records: Records, logs: Logs) -> Iterator[tuple[Kind, Row, bool]]:
    """Yield the kind and the row of each record of the store, and whether the row is sure.

    That of a hidden record is not: it only leads a repeated deletion to the record.
    """
    for kind in KINDS:
        for folder in folders(base, kind):
            for name in os.listdir(folder):
                hidden = name.endswith(".json.hidden")
                if hidden and os.path.exists(f"{folder}/{name.removesuffix('.hidden')}"):
                    continue  # the record was saved again meanwhile
                if hidden or name.endswith(".json"):
                    row = _scanned(records, logs, kind, f"{folder}/{name}")
                    if row is not None:
                        yield kind, row, not hidden


def folders(base: str, kind: Kind) -> list[str]:
    """Return the folders that hold the files of this kind."""
    paths = [f"{base}/{kind}/{name}" for name in sorted(os.listdir(f"{base}/{kind}"))]
    return [path for path in paths if os.path.isdir(path)]


def traces_in(records: Records, kind: Kind, folder: str) -> Iterator[Trace]:
    """Yield a trace for each record and each log in the folder, damaged or not."""
    for name in os.listdir(folder):
        path = f"{folder}/{name}"
        if not _OURS.fullmatch(name):
            continue
        with suppress(FileNotFoundError), open(path, "rb", buffering=0) as file:
            if name.endswith(".jsonl"):
                header = read_header(file)
                key = header and header[0]
            else:
                record = parse_record(file.readall())
                key = record and record.key
            if key is not None and not path.startswith(records.path(kind, key)):
                key = None
            yield Trace(key, path)


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
