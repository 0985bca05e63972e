"""The values that a storage takes and returns."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

# A storage takes texts as `str`. It returns them as `str` or as bytes in UTF-8. A damaged text is
# returned as it is stored; in a `str`, bytes that cannot be decoded are surrogates
# (``errors="surrogateescape"``).
Text = str | bytes
Order = Literal["newest", "oldest", "active", "key"]


class Document(NamedTuple):
    """A document to write. The text contains the same times; both are in Unix milliseconds.

    `fields` holds those of `Kind.fields` that the document has. `revision` is a token that differs
    for every write. It shows whether the stored document is still the one that was read, and
    whether an earlier attempt of the same call has written it already.
    """

    key: str
    text: str
    created_at: int
    updated_at: int
    fields: Mapping[str, str]
    revision: str


class Stored(NamedTuple):
    """A document that was read.

    `updated_at` is that of the document or, for a session whose log has changed since it was saved,
    the time of the last change of the log, if that is later. `revision` is that of the last `put`,
    `create` or `replace`; `find` may leave it empty, and `Storage.peek` says what `peek` may.
    """

    key: str
    text: Text
    updated_at: int
    revision: str


class Place(NamedTuple):
    """Where a page starts: after the document with this time and this key.

    `time` is what the order sorts by: `created_at` in milliseconds for "newest" and "oldest",
    `updated_at` in seconds for "active". For "key" it is 0.
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
    * `since`, `until`: only documents with since <= time < until, in milliseconds, where time is
      what the order sorts by; for "active" both are widened to whole seconds; not for "key"
    * `after`: only documents after this place
    * `limit`: at most this many documents
    """

    where: Mapping[str, str] = {}
    order: Order = "newest"
    prefix: str = ""
    since: int | None = None
    until: int | None = None
    after: Place | None = None
    limit: int | None = None


class Listing(NamedTuple):
    """Documents in order. `after` is the place of the last one if more follow, else ``None``."""

    documents: Sequence[Stored]
    after: Place | None


class Entry(NamedTuple):
    """One entry of a log: a message. All but the first two fields are for users who query the
    database themselves."""

    id: str
    text: str
    role: str = ""
    subtype: str = ""
    timestamp: int = 0


class Addition(NamedTuple):
    """Entries for one of many logs: the arguments of `Storage.append`."""

    log: str
    entries: Sequence[Entry]
    at: int
    create: Document | None = None
    expected: int | None = None


class Head(NamedTuple):
    """The state of a log: its number of entries, and its generation.

    The generation is the token of the last call that cut off or replaced entries. A log that is
    deleted and created again has another generation. Appending does not change it.
    """

    count: int  # type: ignore[assignment]  # hides the method `tuple.count`
    generation: str


class Window(NamedTuple):
    """Which entries of a log to read.

    * `after`, `before`: only the entries between these two, both excluded; each is an id, or a
      position as a number
    * `first` or `last`: at most this many of those entries, the oldest or the newest
    * `size`: only so many entries that their texts have at most this many bytes in total, but at
      least one entry; with `last` the newest are kept, otherwise the oldest
    * `headed`: whether the `Slice` must contain `head` and `start`
    """

    after: str | int | None = None
    before: str | int | None = None
    first: int | None = None
    last: int | None = None
    size: int | None = None
    headed: bool = False


class Slice(NamedTuple):
    """Consecutive entries of a log, oldest first.

    `start` is the position of the first of `texts`; if `texts` is empty, it is any number. `head`
    and `texts` were read at one moment. `start` and `head` may be ``None`` if the window is not
    `headed`.
    """

    texts: Sequence[Text]
    start: int | None
    head: Head | None


class Trace(NamedTuple):
    """Something that is stored of a document or its log, and where it lies.

    `key` is ``None`` if it is unknown. `stale` marks an index entry that is not at the place of its
    document.
    """

    key: str | None
    where: str
    stale: bool = False


class Found(NamedTuple):
    """The head of a log and those of the requested entries that the log has, read at one moment.

    `there` maps the id of each entry to its position and text. As the answer to a write, `Found`
    means that nothing was written.
    """

    head: Head
    there: Mapping[str, tuple[int, Text]]
