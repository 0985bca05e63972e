"""The raw code where there is no client library: in memory and on the filesystem."""

from __future__ import annotations

import json
import os
import shutil
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import quote

from benchmarks.raw import Raw, decoded


class RawMemory(Raw):
    """Texts in dicts and lists, under a lock."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._logs: dict[str, tuple[list[str], dict[str, int]]] = {}
        self._updated: dict[str, int] = {}
        self._documents: dict[tuple[str, str], tuple[str, tuple[int, str], Any]] = {}
        self._indexes: defaultdict[Any, list[tuple[int, str]]] = defaultdict(list)

    def save(self, kind: str, key: str, text: str, at: int, first: str, second: str) -> None:
        indexes = kind, (kind, 1, first), (kind, 2, second), (kind, first, second)
        with self._lock:
            self._leave(kind, key)
            self._documents[kind, key] = text, (-at, key), indexes
            for index in indexes:
                insort(self._indexes[index], (-at, key))
            if kind == "sessions":
                self._logs.setdefault(key, ([], {}))

    def append(self, session_id: str, messages: Sequence[tuple[str, str]], at: int) -> int:
        with self._lock:
            texts, positions = self._logs[session_id]
            for id, text in messages:
                place = positions.setdefault(id, len(texts) + 1)
                if place > len(texts):
                    texts.append(text)
                elif texts[place - 1] != text:
                    raise ValueError(id)
            self._updated[session_id] = at
            return positions[messages[-1][0]]

    def page(self, kind: str, owner: str, size: int) -> list[Any]:
        with self._lock:
            places = self._indexes[kind, 1, owner][: size + 1]
            texts = [self._documents[kind, key][0] for _, key in places[:size]]
        return decoded(texts)

    def delete_image(self, id: str) -> None:
        with self._lock:
            for _, session_id in self._indexes["sessions", 2, id][:]:
                del self._logs[session_id]
                self._leave("sessions", session_id)
            self._leave("images", id)

    def _text(self, kind: str, key: str) -> str:
        with self._lock:
            return self._documents[kind, key][0]

    def _replace(self, kind: str, key: str, text: Any, new: str) -> bool:
        with self._lock:
            old, *rest = self._documents[kind, key]
            if old == text:
                self._documents[kind, key] = new, *rest
            return old == text

    def _texts(self, session_id: str, last: int | None) -> list[str]:
        with self._lock:
            return self._logs[session_id][0][-(last or 0) :]

    def _part(self, session_id: str, read: int) -> list[str]:
        with self._lock:
            return self._logs[session_id][0][read : read + 200]

    def _leave(self, kind: str, key: str) -> None:
        if found := self._documents.pop((kind, key), None):
            _, place, indexes = found
            for index in indexes:
                places = self._indexes[index]
                del places[bisect_left(places, place)]


class RawFs(Raw):
    """A file for each document, a file of lines for each session, a folder for each owner.

    It keeps less than the package does: no locks between processes, no ids that are unique.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        os.makedirs(folder)

    def save(self, kind: str, key: str, text: str, at: int, *owners: str) -> None:
        # Images are listed by container, sessions by image.
        owner = self._path(f"{kind} of", owners[kind == "sessions"])
        os.makedirs(owner, exist_ok=True)
        self._write(self._path(kind, key), b"" if kind == "sessions" else text.encode())
        link = f"{owner}/{2**53 - at:016x} {quote(key, safe='')}"
        if not os.path.exists(link):
            self._write(link, b"")

    def append(self, session_id: str, messages: Sequence[tuple[str, str]], at: int) -> int:
        data = b"".join(text.encode() + b"\n" for _, text in messages)
        # Not by open(path, "ab"), which would make the file.
        descriptor = os.open(self._path("sessions", session_id), os.O_WRONLY | os.O_APPEND)
        with open(descriptor, "ab", buffering=0) as file:
            file.write(data)
            os.fsync(descriptor)
        return len(messages)

    def stream(self, session_id: str) -> int:
        with open(self._path("sessions", session_id), "rb") as file:
            return sum(1 for line in file if json.loads(line))

    def page(self, kind: str, owner: str, size: int) -> list[Any]:
        names = sorted(os.listdir(self._path(f"{kind} of", owner)))[:size]
        paths = (f"{self._folder}/{kind} {name.partition(' ')[2]}" for name in names)
        return decoded(map(_read, paths))

    def delete_image(self, id: str) -> None:
        owned = self._path("sessions of", id)
        for name in os.listdir(owned) if os.path.exists(owned) else []:
            os.unlink(f"{self._folder}/sessions {name.partition(' ')[2]}")
        shutil.rmtree(owned, ignore_errors=True)
        os.unlink(self._path("images", id))

    def _text(self, kind: str, key: str) -> bytes:
        return _read(self._path(kind, key))

    def _replace(self, kind: str, key: str, text: Any, new: str) -> bool:
        self._write(self._path(kind, key), new.encode())
        return True

    def _texts(self, session_id: str, last: int | None) -> list[bytes]:
        with open(self._path("sessions", session_id), "rb") as file:
            if last is not None:
                file.seek(max(0, os.fstat(file.fileno()).st_size - last * 1000))
            return file.read().split(b"\n")[:-1][-(last or 0) :]

    def _path(self, kind: str, key: str) -> str:
        return f"{self._folder}/{kind} {quote(key, safe='')}"

    def _write(self, path: str, data: bytes) -> None:
        draft = f"{path}.draft"
        with open(draft, "wb", buffering=0) as file:
            file.write(data)
            os.fsync(file.fileno())
        os.replace(draft, path)
        folder = os.open(os.path.dirname(path), os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
