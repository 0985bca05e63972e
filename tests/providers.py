"""What providers and frameworks send: the rows of docs/messages.md."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from agentx_persistence import Message, parse_message

DOCUMENT = (Path(__file__).parents[1] / "docs" / "messages.md").read_text("utf-8")
_ROW = re.compile(r"^\| `(\{.*\})` \| `(\w+)` \|$", re.MULTILINE)
_SUBTYPES = {"UserMessage": "user", "AssistantMessage": "assistant", "SystemMessage": "system"}


class Row(NamedTuple):
    """What is sent, and the name of the class that it is kept as."""

    framework: str
    sent: dict[str, Any]
    kept_as: str

    def message(self, subtype: str | None = None) -> Message:
        """Return the message of the row: mapped as the row says, or of another subtype."""
        if "role" not in self.sent:
            return parse_message(
                {"role": "assistant", "subtype": "assistant", "content": [self.sent]}
            )
        return parse_message(
            {**self.sent, "subtype": subtype or _SUBTYPES.get(self.kept_as, self.framework)}
        )

    def sent_back(self, message: Message) -> Any:
        """Return what was sent, out of the wire form of the message."""
        wire = json.loads(message.to_json())
        if "role" not in self.sent:
            (part,) = wire["content"]
            return part
        added = {"id", "timestamp", "subtype"} - self.sent.keys()
        return {key: value for key, value in wire.items() if key not in added}


def _rows() -> list[Row]:
    rows = []
    for section in DOCUMENT.split("\n## ")[1:]:
        framework = section.partition("\n")[0].lower().replace(", ", "-").replace(" ", "-")
        rows += [Row(framework, json.loads(sent), kept) for sent, kept in _ROW.findall(section)]
    return rows


ROWS = _rows()
IDS = [f"{row.framework}-{next(iter(row.sent.values()))!s:.20}-{n}" for n, row in enumerate(ROWS)]


def exactly(value: Any) -> str:
    """Return a text that is the same for equal JSON only: 1, 1.0 and true differ."""
    return json.dumps(value, sort_keys=True)
