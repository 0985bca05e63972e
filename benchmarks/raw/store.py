from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any


class RawStore(ABC):
    """What is compared. Messages and images are JSON texts; reading decodes them."""

    @abstractmethod
    def save_session(self, session_id: str, image_id: str, text: str) -> None: ...

    @abstractmethod
    def append(self, session_id: str, messages: Sequence[tuple[str, str]], at: int) -> int:
        """Append messages, given as id and text, in one step; return the last one's position."""

    @abstractmethod
    def load(self, session_id: str, last: int | None = None) -> list[Any]: ...

    @abstractmethod
    def stream(self, session_id: str) -> int:
        """Decode all messages, without holding them all; return how many there were."""

    @abstractmethod
    def save_image(self, id: str, container_id: str, name: str, at: int, text: str) -> None: ...

    def save_images(self, rows: Sequence[tuple[str, str, str, int, str]]) -> None:
        """Save many, with the arguments of `save_image`, to have something to measure on."""
        for row in rows:
            self.save_image(*row)

    @abstractmethod
    def get_image(self, id: str) -> Any: ...

    @abstractmethod
    def page(self, container_id: str, size: int) -> list[Any]:
        """Return the newest images of the container."""

    @abstractmethod
    def update_metadata(self, image_id: str, key: str, value: Any) -> None: ...

    @abstractmethod
    def delete_image(self, image_id: str) -> None:
        """Delete the image with its sessions and their messages."""

    @abstractmethod
    def close(self) -> None: ...
