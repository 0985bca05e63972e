"""The tightest code that keeps the same promises, written by hand on each client library.

It gives the next position, refuses an unknown session, keeps message ids unique, and is as durable.
A message that cannot be decoded is not removed. Arguments are not checked, nothing is retried.

A document is given as key, text, time, and two owners: an image's container and name, a session's
container and image, an item's namespace and "". A message is given as id and text. Times are Unix
milliseconds. Texts are JSON, which reading decodes. `local.py` has fewer methods.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any


class Raw:
    """What is the same everywhere: decoding, and what is made of other methods."""

    def get(self, kind: str, key: str) -> Any:
        return json.loads(self._text(kind, key))

    def update(self, kind: str, key: str, field: str, value: str, at: int) -> None:
        """Set one key of a field that is a map."""
        replaced = False
        while not replaced:  # as long as another changes it between reading and writing
            text = self._text(kind, key)
            document = json.loads(text)
            document.setdefault(field, {})["key"] = value
            document["updatedAt"] = at
            replaced = self._replace(kind, key, text, json.dumps(document))

    def load(self, session_id: str, last: int | None = None) -> list[Any]:
        return decoded(self._texts(session_id, last))

    def stream(self, session_id: str) -> int:
        read = 0
        while texts := self._part(session_id, read):
            for text in texts:
                json.loads(text)
            read += len(texts)
        return read


def parts(name: str) -> dict[str, str]:
    """Return the parts of a file beside this one, each under a line "--- name"; "" is the first."""
    text = (Path(__file__).parent / name).read_text()
    first, *rest = re.split(r"^--- (.*)\n", text, flags=re.M)
    return {"": first, **dict(zip(rest[::2], map(str.strip, rest[1::2]), strict=True))}


def decoded(texts: Iterable[str | bytes]) -> list[Any]:
    return [json.loads(text) for text in texts]
