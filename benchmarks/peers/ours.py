"""This package, answering as a peer does."""

from __future__ import annotations

from importlib.metadata import version

from agentx_persistence import ImageRecord, SessionRecord, UserMessage, create_persistence
from benchmarks.peers.worker import LAST, PAGE, TEXT, Call, serve


class Ours:
    version = version("agentx-persistence")
    notes: dict[str, str] = {}  # noqa: RUF012

    def __init__(self, url: str) -> None:
        migrate = {} if url.startswith(("sqlite:", "redis:")) else {"migrate": True}
        self._persistence = create_persistence(url, **migrate)
        self._sessions = self._persistence.sessions

    def fill(self, session: str, size: int) -> None:
        record = SessionRecord(session_id=session, image_id="image", container_id="box")
        self._sessions.save(record)
        for start in range(0, size, 1000):
            messages = [UserMessage(content=TEXT) for _ in range(min(size - start, 1000))]
            self._sessions.add_messages(session, messages)

    def append(self, session: str) -> Call:
        message = UserMessage(content=TEXT)
        return lambda: self._sessions.add_message(session, message)

    def turn(self, session: str) -> Call:
        message = UserMessage(content=TEXT)

        def call() -> None:
            self._sessions.get_messages(session, last=LAST)
            self._sessions.add_message(session, message)

        return call

    def load(self, session: str) -> Call:
        return lambda: self._sessions.get_messages(session, last=LAST)

    def fill_list(self, count: int) -> None:
        for number in range(count):
            owner = f"owner {number // PAGE}"
            self._persistence.images.save(
                ImageRecord(container_id=owner, name=f"name {number}", system_prompt="Be brief.")
            )

    def list(self, owner: str) -> Call:
        return lambda: self._persistence.images.find_all(container_id=owner, limit=PAGE)


if __name__ == "__main__":
    serve(Ours)
