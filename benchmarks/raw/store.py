from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

Session = tuple[str, str, str, int, str]  # id, container, image, time of creation, text
Image = tuple[str, str, str, int, str]  # id, container, name, time of creation, text


class RawStore(ABC):
    """What is compared. Messages and documents are JSON texts; reading decodes them.

    Times are milliseconds since 1970.
    """

    @abstractmethod
    def save_session(self, *session: *Session) -> None: ...

    def save_sessions(self, sessions: Sequence[Session]) -> None:
        """Save many, to have something to measure on."""
        for session in sessions:
            self.save_session(*session)

    @abstractmethod
    def append(self, session_id: str, messages: Sequence[tuple[str, str]], at: int) -> int:
        """Append messages, given as id and text, in one step; return the last one's position."""

    @abstractmethod
    def load(self, session_id: str, last: int | None = None) -> list[Any]: ...

    @abstractmethod
    def stream(self, session_id: str) -> int:
        """Decode all messages, without holding them all; return how many there were."""

    @abstractmethod
    def save_image(self, *image: *Image) -> None: ...

    def save_images(self, images: Sequence[Image]) -> None:
        """Save many, to have something to measure on."""
        for image in images:
            self.save_image(*image)

    @abstractmethod
    def get_image(self, id: str) -> Any: ...

    @abstractmethod
    def page(self, container_id: str, size: int) -> list[Any]:
        """Return the newest images of the container."""

    @abstractmethod
    def update_image(self, id: str, change: Callable[[Any], object]) -> None:
        """Let `change` change the decoded image, in one step; it may be called again."""

    @abstractmethod
    def delete_image(self, id: str) -> None:
        """Delete the image with its sessions and their messages."""

    def close(self) -> None:  # noqa: B027
        """Close what was opened here; a server's connection is the caller's."""


class RawServer(RawStore):
    """What is compared on a database only, not on the filesystem or in memory."""

    @abstractmethod
    def rewrite(self, session_id: str, after: str, id: str, text: str, at: int) -> list[Any]:
        """Put one message in place of all after a certain one; return those that were removed."""

    @abstractmethod
    def pop(self, session_id: str, at: int) -> Any:
        """Remove the newest message and return it."""

    @abstractmethod
    def fork(self, session_id: str, *new: *Session) -> int:
        """Copy all messages into a new session; return how many there were."""

    @abstractmethod
    def active(self, container_id: str, size: int) -> list[Any]:
        """Return the sessions of the container that got a message last."""

    @abstractmethod
    def summaries(self, session_ids: Sequence[str]) -> dict[str, tuple[int, Any]]:
        """Return the number of messages of each session, and its newest one."""

    @abstractmethod
    def save_item(self, namespace: str, key: str, at: int, text: str) -> None: ...

    @abstractmethod
    def get_item(self, namespace: str, key: str) -> Any: ...

    @abstractmethod
    def update_item(self, namespace: str, key: str, change: Callable[[Any], object]) -> None:
        """Do to an item what `update_image` does to an image."""
