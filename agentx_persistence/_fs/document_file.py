"""The file of a document: the text as it was given, and in front of it what the store needs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_core import to_json

from agentx_persistence._fs.index import Place, Subject
from agentx_persistence.documents import Document

# JSON has no line feed inside a string: the first one is this, whatever the strings are.
_SEPARATOR, _END = b',\n"record":', b"}\n"


@dataclass(frozen=True, slots=True)
class Stored:
    """:param log: generation and end of a session's log when the document was written: as long as
    they are the same, nothing was added since, and `updated_at` is that of the session
    :param leaves: index entries that were to go once this was written, so that whoever changes the
    document after a process that died then can remove them"""

    __pydantic_config__ = ConfigDict(defer_build=True)

    id: str
    created_at: int
    updated_at: int
    indexes: dict[str, str]
    log: tuple[str, int] | None = None
    leaves: list[tuple[Subject, Place]] = field(default_factory=list)

    def places(self, kind: str) -> dict[Subject, Place]:
        """Return the index entries of the document."""
        place = (-self.created_at, self.id)
        subjects = [(kind, None, None), *((kind, *index) for index in self.indexes.items())]
        return dict.fromkeys(subjects, place)


_STORED = TypeAdapter(Stored)


def dump(stored: Stored, text: str) -> bytes:
    head = to_json(asdict(stored))
    # A damaged text goes back as it came, where only what is in front of it is written anew.
    return b"".join((head[:-1], _SEPARATOR, text.encode(errors="surrogateescape"), _END))


def load(key: str, data: bytes) -> tuple[Stored | None, Document]:
    """Return the document, and what `dump` wrote in front of it if that can be read.

    If not, the document has no text, which is no record: who reads it is told, and who only deletes
    it need not care.
    """
    stored = load_head(data)
    rest = data.partition(_SEPARATOR)[2]
    if stored is None or stored.id != key or not rest.endswith(_END):
        return None, Document(key, "", 0, 0)
    text = rest.removesuffix(_END).decode(errors="surrogateescape")
    return stored, Document(key, text, stored.created_at, stored.updated_at)


def load_head(data: bytes) -> Stored | None:
    try:
        return _STORED.validate_json(data.partition(_SEPARATOR)[0] + b"}")
    except ValidationError:
        return None
