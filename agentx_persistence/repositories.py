"""The contract: what every backend does, said once.

For all methods of all repositories:

* They can be called from any thread. What they return is the caller's own copy.
* An id, name, cursor or number that no record can have raises `InvalidRecordError` before anything
  is read or written. So does a record that cannot be given back exactly.
* A stored record that cannot be read back raises `CorruptRecordError`. It is never skipped.
* A backend that fails raises `BackendError`; one that cannot be reached raises
  `BackendUnavailableError`, after bounded retries. Every call can be repeated safely.
* After `Persistence.close` they raise `PersistenceClosedError`.
* Times are Unix milliseconds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from agentx_persistence.messages import Message
from agentx_persistence.records import ContainerRecord, ImageRecord, Record, SessionRecord

R = TypeVar("R", bound=Record)


@dataclass(frozen=True, slots=True)
class Page(Generic[R]):
    """Some records, and the cursor for those that follow; ``None`` when there are no more."""

    items: list[R]
    next_cursor: str | None


class Repository(ABC, Generic[R]):
    """The verbs that all three repositories share."""

    @abstractmethod
    def save(self, record: R) -> None:
        """Create the record, or replace the whole of the one with this id, in one step.

        From then on it is found only by what it now says. What it owns is not touched, and its
        owner need not exist.

        :raises RecordTooLargeError: if the backend cannot hold it
        """

    @abstractmethod
    def get(self, id: str) -> R:
        """Return the record.

        :raises RecordNotFoundError: if there is none
        """

    @abstractmethod
    def find(self, id: str) -> R | None:
        """Return the record, or ``None`` if there is none."""

    @abstractmethod
    def exists(self, id: str) -> bool:
        """Tell whether there is such a record."""

    @abstractmethod
    def delete(self, id: str) -> bool:
        """Delete the record and all that it owns; tell whether there was such a record.

        A container owns its images and sessions, an image its sessions, a session its messages.
        What an absent record owns goes as well, so that an interrupted deletion can be repeated.
        """


class ContainerRepository(Repository[ContainerRecord]):
    @abstractmethod
    def find_all(self, *, limit: int | None = None) -> list[ContainerRecord]:
        """Return at most `limit` containers, or all: newest first (`created_at` descending), those
        of the same millisecond by id, ascending."""

    @abstractmethod
    def find_page(self, *, size: int = 50, cursor: str | None = None) -> Page[ContainerRecord]:
        """Return at most `size` containers in the order of `find_all`, from the start or from the
        `next_cursor` of the page before. What is saved meanwhile shifts no page."""


class ImageRepository(Repository[ImageRecord]):
    @abstractmethod
    def find_all(
        self,
        *,
        container_id: str | None = None,
        name: str | None = None,
        limit: int | None = None,
    ) -> list[ImageRecord]:
        """Return at most `limit` images, or all, in the order of `ContainerRepository.find_all`.

        :param container_id: only the images of this container
        :param name: only the images of exactly this name, which is case-sensitive
        """

    @abstractmethod
    def find_page(
        self,
        *,
        container_id: str | None = None,
        name: str | None = None,
        size: int = 50,
        cursor: str | None = None,
    ) -> Page[ImageRecord]:
        """Return a page of what `find_all` returns; see `ContainerRepository.find_page`."""

    @abstractmethod
    def update_metadata(self, image_id: str, changes: Mapping[str, Any]) -> ImageRecord:
        """Merge the top-level keys into the image's metadata in one step; return the new image.

        A key whose value is ``None`` is removed. `updated_at` becomes the time of the call.

        :raises RecordNotFoundError: if there is no such image
        """


class SessionRepository(Repository[SessionRecord]):
    """Sessions and their messages.

    The messages of a session have positions from 1 up, without gaps, in the order in which they
    were added. Timestamps order nothing. Saving a session does not touch its messages.
    """

    @abstractmethod
    def find_all(
        self,
        *,
        container_id: str | None = None,
        image_id: str | None = None,
        limit: int | None = None,
    ) -> list[SessionRecord]:
        """Return at most `limit` sessions, or all, in the order of `ContainerRepository.find_all`.

        :param container_id: only the sessions of this container
        :param image_id: only the sessions of this image
        """

    @abstractmethod
    def find_page(
        self,
        *,
        container_id: str | None = None,
        image_id: str | None = None,
        size: int = 50,
        cursor: str | None = None,
    ) -> Page[SessionRecord]:
        """Return a page of what `find_all` returns; see `ContainerRepository.find_page`."""

    @abstractmethod
    def find_by_image(self, image_id: str) -> SessionRecord | None:
        """Return the newest session of the image, or ``None`` if it has none."""

    @abstractmethod
    def add_message(self, session_id: str, message: Message) -> int:
        """Append the message in one step; return its position, from 1 up.

        The message's id makes the call safe to repeat: a message that is there already keeps its
        position, and nothing changes. Otherwise the session's `updated_at` becomes the time of the
        call. When this returns, the message is as durable as the backend makes it.

        :raises RecordNotFoundError: if there is no such session
        :raises RecordConflictError: if the session has a different message with this id
        :raises RecordTooLargeError: if the backend cannot hold the message
        """

    @abstractmethod
    def add_messages(self, session_id: str, messages: Sequence[Message]) -> list[int]:
        """Append all the messages or none, in one step; return the position of each.

        New messages get consecutive positions. One that is there already keeps its own, as with
        `add_message`, whose errors are raised here, too.
        """

    @abstractmethod
    def get_messages(
        self,
        session_id: str,
        *,
        first: int | None = None,
        last: int | None = None,
        after: str | None = None,
        before: str | None = None,
    ) -> list[Message]:
        """Return the messages of the session, oldest first, whichever end they are taken from.

        :param first: only so many, from the oldest on; not together with `last`
        :param last: only so many, up to the newest
        :param after: only those behind the message with this id
        :param before: only those ahead of the message with this id
        :raises RecordNotFoundError: if there is no such session, or no such message in it
        """

    @abstractmethod
    def iter_messages(self, session_id: str) -> Iterator[Message]:
        """Return an iterator over all messages, oldest first, that holds only a few at a time.

        Messages that are added meanwhile come, too, if they are there when it gets to them.

        :raises RecordNotFoundError: by this call, if there is no such session; by the iterator,
            if the session is deleted meanwhile
        """

    @abstractmethod
    def count_messages(self, session_id: str) -> int:
        """Return the number of messages.

        :raises RecordNotFoundError: if there is no such session
        """

    @abstractmethod
    def clear_messages(self, session_id: str) -> int:
        """Delete all messages of the session, which stays; return how many there were.

        :raises RecordNotFoundError: if there is no such session
        """

    @abstractmethod
    def truncate_after(self, session_id: str, message_id: str) -> int:
        """Rewind the session: delete all messages behind this one; return how many there were.

        The next message that is added takes the position behind this one.

        :raises RecordNotFoundError: if there is no such session, or no such message in it
        """
