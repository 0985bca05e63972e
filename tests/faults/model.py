"""What one writer's own records must be, given what it did so far."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

from agentx_persistence import Persistence

# An operation is a JSON object: "do" says what, "n" is its number in its writer's life.
Operation = dict[str, Any]
# A message is its id and the length of its text, which follows from both.
MessageMark = tuple[str, int]
Subject = tuple[str, str]


def content(id: str, length: int) -> str:
    """Return a message's text: its id, then filling with what is easily torn or mangled."""
    return f"{id} " + ('é\n\u0000😀"\\' * (length // 6 + 1))[:length]


@dataclass
class Model:
    containers: dict[str, int] = field(default_factory=dict)
    images: dict[str, dict[str, Any]] = field(default_factory=dict)
    sessions: dict[str, dict[str, Any]] = field(default_factory=dict)
    items: dict[str, int] = field(default_factory=dict)

    def apply(self, operation: Operation) -> None:
        """Do to the model what the operation does to the store; to the own records, that is."""
        done, id = operation["do"], operation.get("id", "")
        if done == "save container":
            self.containers[id] = operation["note"]
        elif done == "save image":
            self.images[id] = {**operation["image"], "metadata": {}}
        elif done == "metadata":
            self.images[id]["metadata"].update(operation["changes"])
        elif done == "save session":
            messages = self.sessions.get(id, {}).get("messages", [])
            self.sessions[id] = {**operation["session"], "messages": messages}
        elif done == "append" and id in self.sessions:
            messages = self.sessions[id]["messages"]
            messages += [tuple(m) for m in operation["messages"] if tuple(m) not in messages]
        elif done == "rewrite":
            messages = self.sessions[id]["messages"]
            ids = [message_id for message_id, _ in messages]
            messages[ids.index(operation["after"]) + 1 :] = map(tuple, operation["messages"])
        elif done == "pop":
            self.sessions[id]["messages"].pop()
        elif done == "replace":
            message_id, length = operation["message"]
            messages = self.sessions[id]["messages"]
            at = [known for known, _ in messages].index(message_id)
            messages[at] = (message_id, length)
        elif done == "fork":
            messages = self.sessions[operation["of"]]["messages"]
            ids = [message_id for message_id, _ in messages]
            count = ids.index(operation["through"]) + 1 if "through" in operation else len(ids)
            self.sessions[id] = {**operation["session"], "messages": messages[:count]}
        elif done in ("update image", "update session"):
            getattr(self, f"{done.removeprefix('update ')}s")[id].update(operation["changes"])
        elif done == "save item":
            self.items[id] = operation["note"]
        elif done == "update item":
            self.items[id] = operation["changes"]["note"]
        elif done in ("truncate", "clear"):
            messages = self.sessions[id]["messages"]
            ids = [message_id for message_id, _ in messages]
            del messages[ids.index(operation["after"]) + 1 if done == "truncate" else 0 :]
        elif done.startswith("delete"):
            for kind, owned in self._owned(done.removeprefix("delete "), id):
                getattr(self, kind).pop(owned, None)

    def _owned(self, kind: str, id: str) -> list[Subject]:
        """Return the subjects that a deletion takes."""
        if kind in ("sessions", "items"):
            return [(kind, id)]
        images = [id]
        if kind == "containers":
            images = [i for i, image in self.images.items() if image["container_id"] == id]
        sessions = [
            s
            for s, session in self.sessions.items()
            if session["image_id"] in images
            or (kind == "containers" and session["container_id"] == id)
        ]
        own = []
        if kind == "containers":
            own = [(kind, id), *(("items", i) for i in self.items if i.startswith(f"{id}/"))]
        return [*own, *(("images", i) for i in images), *(("sessions", s) for s in sessions)]

    def touched(self, operation: Operation) -> list[Subject]:
        done, id = operation["do"], operation.get("id", "")
        if done.startswith("delete"):
            return self._owned(done.removeprefix("delete "), id)
        kinds = {"save container": "containers", "metadata": "images"}
        kinds |= {f"{verb} image": "images" for verb in ("save", "update")}
        kinds |= {f"{verb} item": "items" for verb in ("save", "update")}
        return [(kinds.get(done, "sessions"), id)]

    def state(self, subject: Subject) -> Any:
        found = getattr(self, subject[0]).get(subject[1])
        return copy.deepcopy(found)


def stored_state(persistence: Persistence, subject: Subject) -> Any:
    """Return what `Model.state` returns, of the store."""
    kind, id = subject
    if kind == "containers":
        container = persistence.containers.find(id)
        return container and container.config["note"]
    if kind == "images":
        image = persistence.images.find(id)
        if image is None:
            return None
        metadata = image.metadata.model_dump(exclude_unset=True) if image.metadata else {}
        fields = ("container_id", "session_id", "name", "created_at", "note")
        return {**{name: getattr(image, name) for name in fields}, "metadata": metadata}
    if kind == "items":
        item = persistence.items.find(namespace_of(id), id)
        return item and item.value["note"]
    session = persistence.sessions.find(id)
    if session is None:
        return None
    fields = ("image_id", "container_id", "created_at", "note")
    messages = [mark(message) for message in persistence.sessions.get_messages(id)]
    return {**{name: getattr(session, name) for name in fields}, "messages": messages}


def namespace_of(item: str) -> tuple[str, str]:
    """Return the namespace of an item, which is of the container that its key begins with."""
    return item.rpartition("/")[0], "state"


def mark(message: Any) -> MessageMark:
    """Return id and length of a message; a length that none has if the text is another."""
    length = len(message.content) - len(message.id) - 1
    return message.id, length if message.content == content(message.id, length) else -1
