"""Stores a conversation in a SQLite file, or prints the one that is there.

python examples/quickstart.py write FILE
python examples/quickstart.py read FILE
"""

from __future__ import annotations

import sys

from agentx_persistence import (
    AssistantMessage,
    ErrorMessage,
    Message,
    OtherMessage,
    Persistence,
    SessionRecord,
    TextOutput,
    TextPart,
    ThinkingPart,
    ToolCallMessage,
    ToolCallPart,
    ToolResultMessage,
    ToolResultPart,
    Usage,
    UserMessage,
    create_persistence,
)

CONVERSATION: list[Message] = [
    UserMessage(content="Which files are in this folder?"),
    AssistantMessage(
        content=[
            ThinkingPart(reasoning="I should look.", token_count=5),
            TextPart(text="Let me look."),
        ],
        usage=Usage(input_tokens=42, output_tokens=9),
    ),
    ToolCallMessage(tool_call=ToolCallPart(id="call_1", name="bash", input={"command": "ls"})),
    ToolResultMessage(
        tool_call_id="call_1",
        tool_result=ToolResultPart(
            id="call_1", name="bash", output=TextOutput(value="LICENSE  README.md")
        ),
    ),
    ErrorMessage(content="The model is overloaded.", error_code="overloaded"),
    AssistantMessage(content="There are two: LICENSE and README.md."),
]


def write(persistence: Persistence) -> None:
    session = SessionRecord(container_id="user-42", title="Which files?")
    for message in CONVERSATION:
        position = persistence.sessions.add_message(session.session_id, message, create=session)
        print(f"stored message {position}: {message.subtype}")


def read(persistence: Persistence) -> None:
    session = persistence.sessions.find_all(container_id="user-42", limit=1)[0]
    print(f"{session.title} ({session.session_id})")
    for message in persistence.sessions.iter_messages(session.session_id):
        print(f"{message.role:>10}: {describe(message)}")


def describe(message: Message) -> str:
    match message:
        case ToolCallMessage():
            return f"calls {message.tool_call.name} with {message.tool_call.input}"
        case ToolResultMessage():
            output = message.tool_result.output
            said = output.value if isinstance(output, TextOutput) else output.to_json()
            return f"{message.tool_result.name} says {said!r}"
        case OtherMessage():
            return message.to_json()  # of another framework
        case _:
            return message.text


if __name__ == "__main__":
    action, file = sys.argv[1:]
    with create_persistence(f"sqlite:///{file}") as opened:
        {"write": write, "read": read}[action](opened)
