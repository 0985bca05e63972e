"""A store with some of everything, for tests that copy it."""

from __future__ import annotations

import random

from agentx_persistence import (
    AssistantMessage,
    ContainerRecord,
    ImageRecord,
    ItemRecord,
    OtherMessage,
    Persistence,
    SessionRecord,
    TextPart,
    ThinkingPart,
    ToolCallMessage,
    ToolCallPart,
    ToolResultMessage,
    ToolResultPart,
    Usage,
    UserMessage,
)
from agentx_persistence.records.parts import TextOutput
from tests.contract.hostile import CONTENTS, IDS


def fill(persistence: Persistence, conversations: int = 12) -> None:
    """Write hostile ids and contents, items, and random conversations, always the same ones."""
    some = random.Random(19)
    for n, id in enumerate(some.sample(IDS, 12)):
        persistence.containers.save(ContainerRecord(container_id=id, created_at=n, updated_at=5))
        persistence.images.save(ImageRecord(image_id=id, container_id=id, name=id, created_at=-n))
        persistence.sessions.save(SessionRecord(session_id=id, container_id=id, image_id=id))
        persistence.items.save(ItemRecord(namespace=(id, "a"), key=id, value={"n": n}))
    persistence.items.save(ItemRecord(namespace=("box", "raw"), key="k", value=b"\x00\xff"))
    persistence.sessions.save(SessionRecord(session_id="contents", updated_at=7, created_at=7))
    for content in CONTENTS.values():
        persistence.sessions.add_message(
            "contents", OtherMessage(role="x", subtype="open", content=content)
        )
    for n in range(conversations):
        session = SessionRecord(session_id=f"s{n}", container_id=f"c{n % 3}", title=f"Talk {n}")
        persistence.sessions.save(session)
        messages = [conversation_message(some, i) for i in range(some.randrange(30))]
        persistence.sessions.add_messages(session.session_id, messages)
    persistence.sessions.clear_messages("s1")
    # A record whose time is later than that of its last message.
    persistence.sessions.update("s2", {"updatedAt": 4_000_000_000_000})


def conversation_message(
    some: random.Random, n: int
) -> UserMessage | AssistantMessage | ToolCallMessage | ToolResultMessage | OtherMessage:
    text = "".join(some.choices("aé☃🚀 \n\t", k=some.randrange(200)))
    usage = Usage(input_tokens=n, output_tokens=2)
    return some.choice(
        [
            UserMessage(content=text, timestamp=n),
            AssistantMessage(content=[ThinkingPart(reasoning="hm"), TextPart(text=text)]),
            AssistantMessage(content=text, usage=usage),
            ToolCallMessage(tool_call=ToolCallPart(id="1", name="look", input={"q": text})),
            ToolResultMessage(
                tool_call_id="1",
                tool_result=ToolResultPart(id="1", name="look", output=TextOutput(value=text)),
            ),
            OtherMessage(role="x", subtype="other", anything=[1, 1.0, None, {"é": text}]),
        ]
    )
