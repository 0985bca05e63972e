"""Files of a store: JSON Lines of wire forms, to be read again, and Markdown, for people.

Each line is a JSON object. The first one has the format's name and version. Then comes a line for
each record, ``{"container": …}``, ``{"image": …}``, ``{"item": …}`` or ``{"session": …}``, and
after each session its messages, ``{"message": …}``. The values are the stored texts, byte by byte.
A session whose last change is later than its record says has ``"updatedAt"`` beside it. The last
line has the number of lines before it, by which a file that was cut off is recognised.
"""

from __future__ import annotations

import gzip
import os
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

from pydantic.alias_generators import to_camel
from pydantic_core import from_json

from agentx_persistence.errors import ConfigurationError, InvalidRecordError
from agentx_persistence.persistence import Persistence
from agentx_persistence.records import Message, parse_message
from agentx_persistence.repositories._repository import RecordStore
from agentx_persistence.storage import ITEMS, KINDS, SESSIONS, Entry, Kind, Storage, Stored
from agentx_persistence.transfer import _foreign_sources as sources
from agentx_persistence.transfer import _walking as walking
from agentx_persistence.transfer._whole import WholeSessions
from agentx_persistence.transfer._writing import Writer
from agentx_persistence.transfer.conversation import markdown
from agentx_persistence.transfer.reports import ImportReport, Progress, Step

FORMAT = "agentx-persistence"
VERSION = 1
# The end of a line that has a later time than its record.
_LATER = re.compile(r',\s*"updatedAt"\s*:\s*-?[0-9]+\s*}\s*$')
_BATCH_COUNT = 500
_BATCH_BYTES = 4_000_000


def export(
    persistence: Persistence,
    file: str | os.PathLike[str],
    *,
    containers: Sequence[str] | None = None,
    since: int | None = None,
    progress: Progress | None = None,
) -> int:
    """Write the store, or a part of it, to a file; return the number of messages in it.

    The name tells the format: ``.md`` is Markdown, for people; anything else is JSON Lines, which
    `import_file` reads. A name that ends with ``.gz`` is compressed. The file gets its name when
    it is whole; a pipe or a device is written to as it is. A SQLite database is not replaced.

    Each session comes once. It is read again from its beginning if others change its record, or cut
    or replace messages of it meanwhile, and left out if they delete it, or move it out of the
    containers. One of more than 8 MB waits in a temporary file until it is whole.

    :param containers: only these containers, with their images, sessions and items
    :param since: only what was changed at this time or later, in Unix milliseconds; the messages of
        a session come all or not at all
    :raises ConfigurationError: if the file is a SQLite database
    :raises CorruptRecordError: for a record that cannot be read
    :raises RecordConflictError: if a session is so changed during five readings
    """
    path = Path(file)
    readable = path.name.removesuffix(".gz").endswith(".md")
    write = _export_markdown if readable else _export_lines

    def fill(place: Path) -> int:
        with _opened(place, "wb", path.name.endswith(".gz")) as lines:
            return write(persistence, lines, containers, since, progress)

    if path.exists() and not path.is_file():
        return fill(path)  # such as a pipe, or /dev/stdout, which must not be replaced
    if sources.is_sqlite(path):
        raise ConfigurationError("export", f"{path} is a database; choose another name")
    path = path.resolve()
    part = path.with_name(f"{path.name}.{walking.token()}.part")
    try:
        messages = fill(part)
        with part.open("rb") as file_on_disk:
            os.fsync(file_on_disk.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return messages


@contextmanager
def _opened(path: Path, mode: str, compressed: bool) -> Iterator[IO[bytes]]:
    opener: Any = gzip.open if compressed else open
    with opener(path, mode) as file:
        yield file


def _export_lines(
    persistence: Persistence,
    file: IO[bytes],
    containers: Sequence[str] | None,
    since: int | None,
    progress: Progress | None,
) -> int:
    storage = walking.storage_of(persistence)
    sessions = WholeSessions(storage, containers)
    file.write(b'{"format":"%s","version":%d}\n' % (FORMAT.encode(), VERSION))
    written, messages = 1, 0
    for kind in walking.ORDER:
        done, total = 0, walking.total(storage, kind, containers) if progress else 0
        for page in walking.pages(storage, kind, containers):
            for stored in page:
                if since is not None and stored.updated_at < since:
                    continue
                if kind is SESSIONS:
                    added = sessions.write(stored, partial(_session_lines, storage), file)
                    if added is None:
                        continue
                    written, messages = written + added, messages + added
                else:
                    file.write(_record_line(storage, kind, stored))
                written += 1
            done += len(page)
            if progress:
                progress(Step("export", kind.name, done, total, messages))
    file.write(b'{"lines":%d}\n' % written)
    return messages


def _record_line(storage: Storage, kind: Kind, stored: Stored) -> bytes:
    document = walking.document_of(storage, kind, stored)
    later = _later(stored, document.text)
    return b'{"%s":%s%s}\n' % (kind.noun.encode(), document.text.encode(), later)


def _later(stored: Stored, text: str) -> bytes:
    if from_json(text).get("updatedAt") == stored.updated_at:
        return b""
    return b',"updatedAt":%d' % stored.updated_at


def _session_lines(storage: Storage, stored: Stored, file: IO[bytes]) -> int:
    file.write(_record_line(storage, SESSIONS, stored))
    position = 0
    for texts in walking.batches(storage, stored.key, 0):
        for text in texts:
            position += 1
            (entry,) = walking.entries_of(storage, stored.key, position, [text])
            file.write(b'{"message":%s}\n' % entry.text.encode())
    return position


def _export_markdown(
    persistence: Persistence,
    file: IO[bytes],
    containers: Sequence[str] | None,
    since: int | None,
    progress: Progress | None,
) -> int:
    storage, messages, done = walking.storage_of(persistence), 0, 0
    total = walking.total(storage, SESSIONS, containers) if progress else 0
    sessions = WholeSessions(storage, containers)
    for page in walking.pages(storage, SESSIONS, containers):
        for stored in page:
            if since is not None and stored.updated_at < since:
                continue
            messages += sessions.write(stored, partial(_session_text, persistence), file) or 0
        done += len(page)
        if progress:
            progress(Step("export", SESSIONS.name, done, total, messages))
    return messages


def _session_text(persistence: Persistence, stored: Stored, file: IO[bytes]) -> int:
    sessions, count = persistence.sessions, 0

    def counted() -> Iterator[Message]:
        nonlocal count
        for message in sessions.iter_messages(stored.key):
            count += 1
            yield message

    for text in markdown(sessions.get(stored.key), counted()):
        file.write(text.encode())
    return count


def import_file(
    file: str | os.PathLike[str], persistence: Persistence, *, progress: Progress | None = None
) -> ImportReport:
    """Read a file that `export` has written into the store.

    Each record and message is as it was, with its times. A second import of the same file writes
    nothing. A record of the file replaces the stored one with the same id, unless that was changed
    later. Messages are appended; those that are there stay.

    :raises InvalidRecordError: if it is no such file, or not whole; naming the line
    :raises RecordConflictError: if a session has another message with the id of one in the file
    """
    path = Path(file)
    writer = Writer(persistence)
    with _opened(path, "rb", path.name.endswith(".gz")) as lines:
        try:
            _import_lines(lines, writer, progress)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise InvalidRecordError("file", path.name, f"is damaged: {error}") from error
    return writer.report


def _import_lines(lines: IO[bytes], writer: Writer, progress: Progress | None) -> None:
    session: Stored | None = None
    batch: list[Entry] = []
    size, number, ended, done = 0, 0, False, Counter[Kind]()
    for number, line in enumerate(lines, 1):
        if ended and not line.strip():
            continue
        name, values, text, updated_at = _parse(line, number)
        if number == 1:
            if name != "format" or values != FORMAT:
                raise _refusal(1, f"is not the first line of a file of {FORMAT}")
            if from_json(line).get("version") != VERSION:
                raise _refusal(
                    1, "names another version of the format; run: pip install --upgrade " + FORMAT
                )
            continue
        if ended:
            raise _refusal(number, "comes after the line that ends an export")
        if name == "lines":
            ended = values == number - 1
            if not ended:
                break
            continue
        if name == "message":
            if session is None:
                raise _refusal(number, "is a message before any session")
            batch.append(_entry(number, values, text))
            size += len(text)
            if len(batch) < _BATCH_COUNT and size < _BATCH_BYTES:
                continue
        if session is not None:
            writer.messages(session, batch)
            batch, size = [], 0
        if name != "message":
            if session is not None:
                writer.finish(session)
                session = None
            kind = next((kind for kind in KINDS if kind.noun == name), None)
            if kind is None:
                raise _refusal(number, f"has {name!r}, which this version does not know")
            stored = _stored(number, kind, values, text, updated_at, writer.persistence)
            if kind is SESSIONS:
                session = stored
                writer.session(stored)
            else:
                writer.record(kind, stored)
            done[kind] += 1
            if progress:
                progress(Step("import", kind.name, done[kind], 0, writer.report.messages))
    if session is not None:
        writer.messages(session, batch)
        writer.finish(session)
        if progress:
            progress(Step("import", SESSIONS.name, done[SESSIONS], 0, writer.report.messages))
    if not ended:
        raise _refusal(
            number, "is the last line, but not the line that ends an export: the file was cut"
        )


def _entry(number: int, values: Any, text: str) -> Entry:
    try:
        parse_message(text)
        id, *fields = (values[key] for key in ("id", "role", "subtype", "timestamp"))
    except (InvalidRecordError, KeyError) as error:
        raise _refusal(number, f"is no whole message: {error}") from error
    return Entry(id, text, *fields)


def _stored(
    number: int, kind: Kind, values: Any, text: str, later: int | None, persistence: Persistence
) -> Stored:
    repository: RecordStore[Any] = getattr(persistence, kind.name)
    try:
        record = repository.record.model_validate_json(text)
        # A missing field would get another value in each import.
        for name in ("createdAt", "updatedAt", *([] if kind is ITEMS else [to_camel(kind.key)])):
            values[name]
    except (InvalidRecordError, KeyError) as error:
        raise _refusal(number, f"is no whole {kind.noun}: {error}") from error
    return Stored(repository._key(record), text, later or record.updated_at, "")


def _parse(line: bytes, number: int) -> tuple[str, Any, str, int | None]:
    """Return the name of what is on the line, its value, its exact text, and a later time."""
    try:
        values, text = from_json(line), line.decode()
        name = next(iter(values.keys()))
    except (ValueError, AttributeError, StopIteration) as error:
        raise _refusal(number, "is no JSON object") from error
    start, stop, later = text.index(":") + 1, text.rindex("}"), None
    if "updatedAt" in values:
        later, end = values["updatedAt"], _LATER.search(text)
        if end is None or not -(2**53) < later < 2**53:
            raise _refusal(number, "has an updatedAt that is not a time, or not its last field")
        stop = end.start()
    return name, values[name], text[start:stop].strip(), later


def _refusal(number: int, reason: str) -> InvalidRecordError:
    return InvalidRecordError("file", f"line {number}", reason)
