"""The places of the items in which LangGraph's checkpoints are kept.

* ``(container, "checkpoints", thread, ":" + namespace, checkpoint)`` is the namespace of a
  checkpoint, so that each listing is one of a prefix, and the newest checkpoint comes first.
* In it the item "~checkpoint" is the checkpoint, and before it come the writes of each task.
* ``(container, "runs", run)`` has an entry for each checkpoint whose metadata names that run.

Elements and keys can be digests. So the value of a checkpoint, and of writes, has the whole ids of
the thread, the namespace and the checkpoint in "place".
"""

from __future__ import annotations

import hashlib

from agentx_persistence import InvalidRecordError
from agentx_persistence.integrations.langgraph.items import Space
from agentx_persistence.records import id_problem

CHECKPOINT = "~checkpoint"
# Then the namespace of a checkpoint fits an item, unless the container's id is very long.
_MAX_ELEMENT = 64
_COMPLEMENT = bytes(range(255, -1, -1))


def space_of(container: str, *place: str | None) -> Space:
    """Return the namespace of a checkpoint, or what those of several begin with.

    :param place: a thread, a namespace, and a checkpoint; all that there are from ``None`` on
    """
    space: Space = (container, "checkpoints")
    for name, text in zip((element, _namespace, _newest_first), place, strict=False):
        if text is None:
            break
        space = (*space, name(text))
    return space


def entry_of(space: Space, run: str) -> tuple[Space, str]:
    """Return the namespace and key of the entry by which its run finds this checkpoint."""
    return (space[0], "runs", element(run)), element("~" + "/".join(space))


def element(text: str) -> str:
    """Return the text as an element or a key; a digest of it, if it is long or cannot be one."""
    if len(text) <= _MAX_ELEMENT and not text.startswith("~") and not id_problem(text):
        return text
    return "~" + hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:48]


def _namespace(text: str) -> str:
    return element(f":{text}")


def _newest_first(checkpoint_id: str) -> str:
    """Return an element for a checkpoint's id. Their ascending order is the descending one of ids.

    It is the complement of each byte in hexadecimal, and "~", which comes after all digits.
    """
    if id_problem(checkpoint_id) or len(name := checkpoint_id.encode()) > _MAX_ELEMENT:
        reason = f"must be an id of at most {_MAX_ELEMENT} bytes, not {checkpoint_id!r}"
        raise InvalidRecordError("checkpoint", "id", reason)
    return name.translate(_COMPLEMENT).hex() + "~"
