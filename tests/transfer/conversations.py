"""Random conversations: every class of message and part, every verb, odd texts and ids."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from agentx_persistence import (
    AssistantMessage,
    ContainerRecord,
    ContentOutput,
    ErrorJsonOutput,
    ErrorMessage,
    ErrorTextOutput,
    ExecutionDeniedOutput,
    FilePart,
    ImagePart,
    ImageRecord,
    ItemRecord,
    JsonOutput,
    Message,
    OtherMessage,
    OtherOutput,
    OtherPart,
    Persistence,
    SessionRecord,
    SystemMessage,
    TextOutput,
    TextPart,
    ThinkingPart,
    ToolCallMessage,
    ToolCallPart,
    ToolResultMessage,
    ToolResultPart,
    Usage,
    UserMessage,
)
from tests.contract.hostile import CONTENTS, IDS

_CHARACTERS = "ab \n\t\x00\x1b\"\\'%$é\u0301ß☃日🚀👩\u200d👧\U0010ffff\ufffe\u2028\ufeff\u202eא"
_JSON = [value for value in CONTENTS.values() if len(repr(value)) < 1_000]
_HUGE = 200_000


def write_conversations(persistence: Persistence, count: int, seed: int) -> None:
    """Write so many sessions, forks included, with images, containers and items around them."""
    some = _Random(seed)
    images: list[ImageRecord] = []
    while (number := persistence.sessions.count()) < count:
        if not images or some.random() < 0.3:
            images.append(some.image(number))
            persistence.images.save(images[-1])
            if some.random() < 0.5:
                container = ContainerRecord(
                    container_id=images[-1].container_id, config=some.metadata()
                )
                persistence.containers.save(container)
        session = some.session(number, some.choice(images))
        sent = list(some.messages(some.choice([0, 1, 3, 10, 30])))
        persistence.sessions.add_messages(session.session_id, sent, create=session)
        _change(persistence, some, session, sent)
        if some.random() < 0.3:
            persistence.items.save(some.item(number, session.container_id))


def _change(
    persistence: Persistence, some: _Random, session: SessionRecord, sent: list[Message]
) -> None:
    """Do to the conversation what applications do, or nothing."""
    sessions, id = persistence.sessions, session.session_id
    match some.randrange(9) if sent else -1:
        case 0:
            after = some.choice([None, *(message.id for message in sent)])
            sessions.rewrite(id, after=after, messages=list(some.messages(3)))
        case 1:
            sessions.pop_message(id)
            sessions.add_messages(id, list(some.messages(2)))
        case 2:
            edited = some.message(0).model_copy(update={"id": some.choice(sent).id})
            sessions.replace_message(id, edited)
        case 3:
            new = some.session(10**6 + len(id), session)
            if not sessions.exists(new.session_id):
                sessions.fork(id, new, through=some.choice([None, some.choice(sent).id]))
                sessions.add_messages(new.session_id, list(some.messages(2)))
        case 4:
            sessions.update(id, {"title": some.text(), "updatedAt": some.randrange(2**42)})
        case 5:
            sessions.clear_messages(id)


class _Random(random.Random):
    def text(self) -> str:
        """Return a text that is empty, short, hostile, or rarely huge."""
        size = self.choice([0, 1, 5, 40, 300]) if self.random() < 0.995 else _HUGE
        return "".join(self.choices(_CHARACTERS, k=size))

    def name(self, number: int) -> str:
        """Return an id that is unlike those of other numbers, and often unusual."""
        return f"{self.choice(IDS)[:150]}~{number}"

    def maybe(self, value: Any) -> Any:
        return value if self.random() < 0.5 else None

    def metadata(self) -> Any:
        return self.choice([None, {}, {self.text(): self.choice(_JSON), "plain": 1}])

    def image(self, number: int) -> ImageRecord:
        return ImageRecord(
            image_id=self.name(number),
            container_id=self.name(self.randrange(7)),
            name=self.maybe(self.text()[:500]),
            model=self.choice([None, "model-1", self.text()]),
            system_prompt=self.maybe(self.text()),
            custom_data=self.metadata(),
            created_at=self.randrange(-(2**40), 2**42),
        )

    def session(self, number: int, owner: ImageRecord | SessionRecord) -> SessionRecord:
        return SessionRecord(
            session_id=self.name(number),
            container_id=owner.container_id,
            image_id=owner.image_id,
            title=self.maybe(self.text()),
            metadata=self.metadata(),
            created_at=self.randrange(-(2**40), 2**42),
            updated_at=self.randrange(2**42),
        )

    def item(self, number: int, container: str) -> ItemRecord:
        """Return an item whose namespace others begin with, or that begins like others."""
        namespace = container, *self.choice([(), ("a",), ("a", "b"), ("ab",), (self.name(0),)])
        value = self.choice([*_JSON, self.randbytes(50), b""])
        return ItemRecord(namespace=namespace, key=self.name(number), value=value)

    def messages(self, count: int) -> Iterator[Message]:
        return map(self.message, range(count))

    def message(self, number: int) -> Message:
        id, times = self.name(self.getrandbits(64)), {"timestamp": self.randrange(-(2**40), 2**42)}
        fields: dict[str, Any] = {"id": id, **self.choice([{}, times])}
        if self.random() < 0.2:
            fields |= {"parent_id": self.name(number), "further": self.choice(_JSON)}
        usage = Usage(input_tokens=number, output_tokens=self.maybe(number), cached=self.maybe(3))
        match self.randrange(8):
            case 0:
                return UserMessage(content=self.content(), **fields)
            case 1:
                content = self.maybe(self.content())
                return AssistantMessage(content=content, usage=self.maybe(usage), **fields)
            case 2:
                return ToolCallMessage(tool_call=self.call(), **fields)
            case 3:
                result = self.result()
                return ToolResultMessage(tool_call_id=result.id, tool_result=result, **fields)
            case 4:
                code = self.maybe(self.text())
                return ErrorMessage(content=self.content(), error_code=code, **fields)
            case 5:
                role: Any = self.choice(["system", "developer"])
                return SystemMessage(role=role, content=self.content(), **fields)
            case 6:
                return OtherMessage(role="x", subtype=f"other {self.text()}", **fields)
        return OtherMessage(role=self.text(), subtype="kept", item=self.choice(_JSON), **fields)

    def content(self) -> Any:
        if self.random() < 0.4:
            return self.text()
        return [self.part() for _ in range(self.randrange(4))]

    def part(self) -> Any:
        return self.result() if self.random() < 0.1 else self.output_part()

    def output_part(self) -> Any:
        text = self.text()
        match self.randrange(6):
            case 0:
                return TextPart(text=text)
            case 1:
                return ThinkingPart(reasoning=self.maybe(text), token_count=self.maybe(len(text)))
            case 2:
                return ImagePart(data="QUJD" * self.randrange(50), media_type=self.maybe(text))
            case 3:
                return FilePart(data="https://example.org/a", filename=self.maybe(text))
            case 4:
                return self.call()
        return OtherPart(type=self.choice([None, "theirs", text]), theirs=self.choice(_JSON))

    def call(self) -> ToolCallPart:
        given = self.choice([*_JSON, {}, '{"cut": "of'])
        return ToolCallPart(id=self.text(), name=self.text(), input=given)

    def result(self) -> ToolResultPart:
        text, value = self.text(), self.choice(_JSON)
        output = self.choice(
            [
                TextOutput(value=text),
                JsonOutput(value=value),
                ErrorTextOutput(value=text),
                ErrorJsonOutput(value=value),
                ExecutionDeniedOutput(reason=self.maybe(text)),
                ContentOutput(value=[self.output_part() for _ in range(self.randrange(3))]),
                OtherOutput(type="theirs", of_theirs=value),
            ]
        )
        return ToolResultPart(id=text, name=self.maybe("tool"), output=output)
