"""Where the files of a store are, in its folder.

Called for each message, so that what was put together once is remembered.
"""

from __future__ import annotations

from functools import lru_cache

from agentx_persistence._fs.files import File, file_name
from agentx_persistence._fs.logs import Log
from agentx_persistence.documents.store import SESSIONS


@lru_cache(maxsize=4096)
def document_path(base: str, kind: str, key: str) -> str:
    return document_file(base, kind, file_name(kind, key)).path


def document_file(base: str, kind: str, name: str) -> File:
    """:param name: as `file_name` gave it for the kind and the key"""
    return _file(base, kind, f"{name}.json")


@lru_cache(maxsize=4096)
def session_log(base: str, session_id: str) -> Log:
    return Log(log_file(base, file_name(SESSIONS, session_id)), session_id)


def log_file(base: str, name: str) -> File:
    return _file(base, SESSIONS, f"{name}.messages.jsonl")


def deleted_path(base: str, kind: str, name: str) -> str:
    """Return where the file of a document is from the moment of its deletion to the end of it."""
    return f"{base}/deleted/{kind}-{name}.json"


def _file(base: str, kind: str, name: str) -> File:
    return File(f"{base}/{kind}/{name[:2]}/{name[2:]}", f"{base}/drafts/{kind}-{name}")
