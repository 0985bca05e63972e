"""Deleting sessions that nobody has used for a while."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from agentx_persistence.persistence import Persistence
from agentx_persistence.records import SessionRecord
from agentx_persistence.repositories._arguments import check_time
from agentx_persistence.storage import SESSIONS
from agentx_persistence.transfer import _walking as walking
from agentx_persistence.transfer.reports import Progress, Step


def prune(
    persistence: Persistence,
    *,
    before: int,
    containers: Sequence[str] | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Iterator[SessionRecord]:
    """Delete the sessions that were last changed before this time; yield each after its deletion.

    It can be interrupted at any moment: what was deleted is gone whole, all else is there whole.
    One atomic step checks the time of a session's last change and deletes it. So a session that
    gets a message meanwhile stays, and adding a message to a deleted one raises
    `RecordNotFoundError`. A session is yielded as it was right before that step, unless a `save` in
    between replaced it and set an old `updated_at`.

    :param before: in Unix milliseconds
    :param containers: only sessions of these containers
    :param dry_run: yield them, but delete nothing
    """
    check_time("before", before)
    storage, owners = walking.storage_of(persistence), frozenset(containers or ())
    done, total = 0, walking.total(storage, SESSIONS, containers) if progress else 0
    for page in walking.pages(storage, SESSIONS, containers):
        old = [document.key for document in page if document.updated_at < before]
        for session_id in old:
            session = persistence.sessions.find(session_id)
            if session is None or session.updated_at >= before:
                continue
            if owners and session.container_id not in owners:
                continue  # it has been moved since it was listed
            if dry_run or storage.delete(SESSIONS, session_id, before=before):
                yield session
        done += len(page)
        if progress:
            progress(Step("prune", SESSIONS.name, done, total, 0))
