from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote


class RawFs:
    """One file for each image, one file of lines for each session.

    It keeps less than the package does: no locks between processes, no ids that are unique, and an
    image is found by listing the folder of its container.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        os.makedirs(folder)

    def save_session(self, *session: Any) -> None:
        session_id, _, image_id, _, _ = session
        os.makedirs(f"{self._folder}/sessions of {quote(image_id, safe='')}", exist_ok=True)
        self._write(self._session(session_id), b"")
        self._write(f"{self._folder}/sessions of {quote(image_id, safe='')}/{session_id}", b"")

    def append(self, session_id: str, messages: Sequence[tuple[str, str]], at: int) -> int:
        data = b"".join(text.encode() + b"\n" for _, text in messages)
        descriptor = os.open(self._session(session_id), os.O_WRONLY | os.O_APPEND)
        try:
            os.write(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return len(messages)

    def load(self, session_id: str, last: int | None = None) -> list[Any]:
        with open(self._session(session_id), "rb") as file:
            if last is not None:
                file.seek(max(0, os.fstat(file.fileno()).st_size - last * 1000))
            lines = file.read().split(b"\n")
        lines.pop()
        return [json.loads(line) for line in (lines if last is None else lines[-last:])]

    def stream(self, session_id: str) -> int:
        read = 0
        with open(self._session(session_id), "rb") as file:
            for line in file:
                json.loads(line)
                read += 1
        return read

    def save_image(self, *image: Any) -> None:
        id, container_id, _, at, text = image
        folder = f"{self._folder}/{quote(container_id, safe='')}"
        os.makedirs(folder, exist_ok=True)
        self._write(self._image(id), text.encode())
        link = f"{folder}/{2**53 - at:016x} {quote(id, safe='')}"
        if not os.path.exists(link):
            self._write(link, b"")

    def save_images(self, images: Sequence[Sequence[Any]]) -> None:
        for image in images:
            self.save_image(*image)

    def get_image(self, id: str) -> Any:
        with open(self._image(id), "rb") as file:
            return json.loads(file.read())

    def page(self, container_id: str, size: int) -> list[Any]:
        names = sorted(os.listdir(f"{self._folder}/{quote(container_id, safe='')}"))[:size]
        images = []
        for name in names:
            with open(f"{self._folder}/image {name.partition(' ')[2]}", "rb") as file:
                images.append(json.loads(file.read()))
        return images

    def update_image(self, id: str, change: Callable[[Any], object]) -> None:
        image = self.get_image(id)
        change(image)
        self._write(self._image(id), json.dumps(image).encode())

    def delete_image(self, image_id: str) -> None:
        owned = f"{self._folder}/sessions of {quote(image_id, safe='')}"
        for session_id in os.listdir(owned) if os.path.exists(owned) else []:
            os.unlink(self._session(session_id))
        shutil.rmtree(owned, ignore_errors=True)
        os.unlink(self._image(image_id))

    def _session(self, session_id: str) -> str:
        return f"{self._folder}/session {quote(session_id, safe='')}"

    def _image(self, id: str) -> str:
        return f"{self._folder}/image {quote(id, safe='')}"

    def _write(self, path: str, data: bytes) -> None:
        draft = f"{path}.draft"
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.write(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(draft, path)
        folder = os.open(os.path.dirname(path), os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
