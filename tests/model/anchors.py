"""Records that stay as they are while all others change: whoever looks must find them."""

from __future__ import annotations

from agentx_persistence import (
    ContainerRecord,
    ImageRecord,
    ItemRecord,
    Persistence,
    SessionRecord,
    UserMessage,
)
from tests.model import written

BOX, NAME = "still", "plan"


class Anchors:
    """Among the others in each listing: their times and one name are those of the others, too."""

    def __init__(self) -> None:
        self.containers: dict[str, ContainerRecord] = {BOX: written.container(BOX, 1, None)}
        self.images: dict[str, ImageRecord] = {}
        self.sessions: dict[str, SessionRecord] = {}
        self.messages: dict[str, list[UserMessage]] = {}
        self.items: dict[tuple[tuple[str, ...], str], ItemRecord] = {}
        for number in range(4):
            id = f"{BOX} {number}"
            self.images[id] = written.image(id, BOX, NAME, number, None)
            self.sessions[id] = written.session(id, f"{BOX} 0", BOX, number)
            history: list[UserMessage] = []
            for index in range(number):
                history.append(written.message(f"{id} {index}", id, "", history))
            self.messages[id] = history
            self.items[(BOX, "x"), id] = written.item((BOX, "x"), id, number, None)

    def save(self, persistence: Persistence) -> None:
        for container in self.containers.values():
            persistence.containers.save(container)
        for image in self.images.values():
            persistence.images.save(image)
        for id, session in self.sessions.items():
            persistence.sessions.save(session)
            persistence.sessions.add_messages(id, self.messages[id])
            # Adding messages changed when it was last updated.
            self.sessions[id] = persistence.sessions.get(id)
        for item in self.items.values():
            persistence.items.save(item)
