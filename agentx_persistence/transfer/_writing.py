"""Writing what was read elsewhere, so that a repetition writes nothing."""

from __future__ import annotations

from collections.abc import Sequence

from agentx_persistence.errors import RecordConflictError
from agentx_persistence.persistence import Persistence
from agentx_persistence.records import difference, parse_message
from agentx_persistence.storage import SESSIONS, Entry, Kind, Stored, Text
from agentx_persistence.transfer import _walking as walking
from agentx_persistence.transfer.comparing import same
from agentx_persistence.transfer.reports import ImportReport


class Writer:
    """Writes records and messages with their exact texts and times, and counts them."""

    def __init__(self, persistence: Persistence) -> None:
        self.persistence = persistence
        self.report = ImportReport()
        self._created = False
        self._storage = walking.storage_of(persistence)

    def record(self, kind: Kind, record: Stored) -> None:
        """Write the record, unless it is there or was changed later."""
        there = self._storage.get(kind, [record.key]).get(record.key)
        if there is not None and same(record, there):
            self.report.unchanged += 1
        elif there is not None and there.updated_at > record.updated_at:
            name = walking.name(kind, record.key)
            self.report.skipped.append(
                f"{kind.noun} {name!r}: the stored {kind.noun} was changed later"
            )
        else:
            self._storage.put(kind, walking.document_of(self._storage, kind, record))
            self.report.wrote(kind.name)

    def session(self, session: Stored) -> bool:
        """Create the session, if it is missing, before its messages come; tell whether it was."""
        document = walking.document_of(self._storage, SESSIONS, session)
        self._created = self._storage.create(SESSIONS, document)
        if self._created:
            self.report.wrote(SESSIONS.name)
        return self._created

    def messages(self, session: Stored, entries: Sequence[Entry]) -> None:
        """Append those of the messages that are not there.

        :raises RecordConflictError: if another message has the id of one
        """
        given: dict[str, Entry] = {}
        for entry in entries:
            _require_same(entry, given.setdefault(entry.id, entry).text)
        missing = list(given.values())
        while missing:
            added = self._storage.append(session.key, missing, session.updated_at)
            if isinstance(added, int):
                self.report.messages += len(missing)
                break
            for entry in missing:
                if entry.id in added.there:
                    _require_same(entry, added.there[entry.id][1])
            missing = [entry for entry in missing if entry.id not in added.there]

    def finish(self, session: Stored) -> None:
        """Replace the record of a session that was there, unless it was changed later."""
        if not self._created:
            self.record(SESSIONS, session)


def _require_same(entry: Entry, stored: Text) -> None:
    if walking.raw(stored) != entry.text.encode():
        field = difference(parse_message(walking.raw(stored)), parse_message(entry.text))
        if field:
            raise RecordConflictError("message", entry.id, field=field)
