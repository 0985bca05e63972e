from __future__ import annotations

import json
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any

_Index = tuple[str, ...]


class RawMemory:
    """Texts in dicts and lists, under a lock."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._sessions: dict[str, tuple[list[str], dict[str, int]]] = {}
        self._updated: dict[str, int] = {}
        self._owned: defaultdict[str, list[str]] = defaultdict(list)
        self._images: dict[str, tuple[str, tuple[int, str], tuple[_Index, ...]]] = {}
        self._indexes: defaultdict[_Index, list[tuple[int, str]]] = defaultdict(list)

    def save_session(self, *session: Any) -> None:
        session_id, _, image_id, _, _ = session
        with self._lock:
            self._sessions.setdefault(session_id, ([], {}))
            self._owned[image_id].append(session_id)

    def append(self, session_id: str, messages: Sequence[tuple[str, str]], at: int) -> int:
        with self._lock:
            texts, positions = self._sessions[session_id]
            for id, text in messages:
                if id in positions:
                    if texts[positions[id] - 1] != text:
                        raise ValueError(id)
                    continue
                texts.append(text)
                positions[id] = len(texts)
            self._updated[session_id] = at
            return positions[messages[-1][0]]

    def load(self, session_id: str, last: int | None = None) -> list[Any]:
        with self._lock:
            texts = self._sessions[session_id][0]
            found = texts[:] if last is None else texts[-last:]
        return [json.loads(text) for text in found]

    def stream(self, session_id: str) -> int:
        read = 0
        while True:
            with self._lock:
                texts = self._sessions[session_id][0][read : read + 200]
            if not texts:
                return read
            for text in texts:
                json.loads(text)
            read += len(texts)

    def save_image(self, *image: Any) -> None:
        id, container_id, name, at, text = image
        place = (-at, id)
        both = ("both", container_id, name)
        indexes = (("all",), ("container", container_id), ("name", name), both)
        with self._lock:
            self._leave(id)
            self._images[id] = (text, place, indexes)
            for index in indexes:
                insort(self._indexes[index], place)

    def save_images(self, images: Sequence[Sequence[Any]]) -> None:
        for image in images:
            self.save_image(*image)

    def get_image(self, id: str) -> Any:
        with self._lock:
            text = self._images[id][0]
        return json.loads(text)

    def page(self, container_id: str, size: int) -> list[Any]:
        with self._lock:
            places = self._indexes["container", container_id][: size + 1]
            texts = [self._images[id][0] for _, id in places[:size]]
        return [json.loads(text) for text in texts]

    def update_image(self, id: str, change: Callable[[Any], object]) -> None:
        with self._lock:
            text, place, indexes = self._images[id]
            image = json.loads(text)
            change(image)
            self._images[id] = (json.dumps(image), place, indexes)

    def delete_image(self, image_id: str) -> None:
        with self._lock:
            for session_id in self._owned.pop(image_id, []):
                del self._sessions[session_id]
            self._leave(image_id)

    def _leave(self, id: str) -> None:
        if id in self._images:
            _, place, indexes = self._images.pop(id)
            for index in indexes:
                places = self._indexes[index]
                del places[bisect_left(places, place)]
