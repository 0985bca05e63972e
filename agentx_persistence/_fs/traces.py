"""Looks at every row of the index and at every file, to find all documents and logs."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from agentx_persistence._fs.index import Index
from agentx_persistence._fs.log import read_header
from agentx_persistence._fs.records import Records, Row, parse_record
from agentx_persistence.errors import CorruptRecordError
from agentx_persistence.storage import Kind, Stored, Trace

Load = Callable[[Kind, str], tuple[Stored, Row] | None]

_OURS = re.compile(r"[0-9a-f]{38}\.(json|json\.hidden|jsonl)")


def traces(
    run: Callable[[Callable[[], Any]], Any],
    records: Records,
    index: Index,
    load: Load,
    kind: Kind,
) -> Iterator[Trace]:
    """Yield each document that has a row, then each record and each log, damaged or not.

    :param run: runs each part of the work, and translates its errors
    :param load: returns a document and the row it should have
    """
    keys = run(partial(index.keys, kind, ""))
    while keys:
        for key in keys:
            stale = run(partial(_is_stale, index, load, kind, key))
            yield Trace(key, f"{index.path}, table {kind}, key {key!r}", stale)
        keys = run(partial(index.keys, kind, keys[-1]))
    for folder in run(partial(records.folders, kind)):
        yield from run(partial(_in_folder, records, kind, folder))


def _is_stale(index: Index, load: Load, kind: Kind, key: str) -> bool:
    """Tell whether the index surely lists the document elsewhere than its file says."""
    rows = index.rows(kind, key)
    try:
        loaded = load(kind, key)
    except CorruptRecordError:
        return False
    return loaded is not None and any(row[-1] and row[:-1] != loaded[1] for row in rows)


def _in_folder(records: Records, kind: Kind, folder: str) -> list[Trace]:
    found = []
    for name in os.listdir(folder):
        path = f"{folder}/{name}"
        if not _OURS.fullmatch(name):
            continue
        key = None
        try:
            with open(path, "rb", buffering=0) as file:
                if name.endswith(".jsonl"):
                    header = read_header(file)
                    key = header and header[0]
                else:
                    record = parse_record(file.readall())
                    key = record and record.key
        except FileNotFoundError:
            if not os.path.islink(path):
                continue  # deleted meanwhile
        except OSError as error:  # such as a bad sector of the disk
            path = f"{path}: {error.strerror}"
        if key is not None and not path.startswith(records.path(kind, key)):
            key = None
        found.append(Trace(key, path))
    return found
