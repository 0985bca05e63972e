"""The plain values that go in and out of a storage."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

# A storage is given texts as `str`. It returns each as `str`, or each as its bytes in UTF-8. A
# damaged text is returned as it is; in a `str`, bytes that cannot be decoded are surrogates
# (``errors="surrogateescape"``).
Text = str | bytes
Order = Literal["newest", "oldest", "active", "key"]


class Document(NamedTuple):
    """A document to write. Its times are those of the text, in Unix milliseconds.

    `fields` holds those of `Kind.fields` that the document has. `revision` is a token that no other
    write has. It shows whether a document is still the one that was read, and whether an earlier
    attempt of the same call has written it already.
    """

    key: str
    text: str
    created_at: int
    updated_at: int
    fields: Mapping[str, str]
    revision: str


class Stored(NamedTuple):
    """A document that was read. `updated_at` is the later of its own and its last message's.

    `revision` is that of the last `put`, `create` or `replace`; `find` may leave it empty.
    """

    key: str
    text: Text
    updated_at: int
    revision: str


class Place(NamedTuple):
    """Where a page starts: after the document with this time and this key.

    The time is that of the order: `created_at`; for "active" the second, not the millisecond, of
    `updated_at`; for "key" it is 0.
    """

    time: int
    key: str


class Query(NamedTuple):
    """Which documents of a kind, in which order.

    * `where`: the values of one of the kind's `indexes` (for "active", of its `active`)
    * `order`: "newest" is `created_at` descending, then key ascending; "oldest" is exactly the
      reverse; "active" is the second of `updated_at` (`updated_at // 1000`) descending, then key
      ascending; "key", for items only, is key ascending, without `where`. Keys are compared by
      code point.
    * `prefix`: for "key", only documents whose key begins with it; "" is all
    * `since`, `until`: since <= time < until, in milliseconds of the order's time; for "active"
      both are widened to whole seconds; not for "key"
    * `after`: only what comes after this place
    * `limit`: at most so many
    """

    where: Mapping[str, str] = {}
    order: Order = "newest"
    prefix: str = ""
    since: int | None = None
    until: int | None = None
    after: Place | None = None
    limit: int | None = None


class Listing(NamedTuple):
    """Documents in order, and the place of the last one if there are more, else ``None``."""

    documents: Sequence[Stored]
    after: Place | None


class Entry(NamedTuple):
    """One entry of a log, such as a message. `fields` are for users who query the database."""

    id: str
    text: str
    fields: Mapping[str, str | int]


class Head(NamedTuple):
    """The state of a log: how many entries, and the token of its last cut or replacement.

    A log that is deleted and created again has another generation. Appending does not change it.
    """

    count: int  # type: ignore[assignment]  # instead of a tuple's method of this name
    generation: str


class Window(NamedTuple):
    """Which entries of a log: those between two of them, both excluded.

    * `after`, `before`: an entry's id, or its position as a number
    * `first` or `last`: of these at most so many, from the oldest or up to the newest
    * `size`: return only so many entries (in the direction of `first` or `last`) that their texts
      have at most so many bytes in all, but always at least one
    * `headed`: whether the answer must have its head and its start
    """

    after: str | int | None = None
    before: str | int | None = None
    first: int | None = None
    last: int | None = None
    size: int | None = None
    headed: bool = False


class Slice(NamedTuple):
    """Consecutive entries of a log, oldest first.

    `start` is the position of the first of `texts`; if there are none, it is any number. `head` and
    `texts` are of one moment. `start` and `head` may be ``None`` if the window is not `headed`.
    """

    texts: Sequence[Text]
    start: int | None
    head: Head | None


class Found(NamedTuple):
    """Position and text of each entry that is there, by its id, and the head, all of one moment.

    As the answer to a write it means that nothing was written.
    """

    head: Head
    there: Mapping[str, tuple[int, Text]]
