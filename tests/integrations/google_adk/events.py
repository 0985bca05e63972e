"""Events as ADK's runners make them, with every kind of part and of field."""

from __future__ import annotations

from typing import Any

from google.adk.events import Event, EventActions
from google.adk.sessions import BaseSessionService, Session
from google.adk.tools.tool_confirmation import ToolConfirmation
from google.genai import types

WHERE = {"app_name": "app", "user_id": "user"}


def changing(**delta: Any) -> Event:
    """Return an event that changes the state; ``app_`` and ``user_`` name the scopes."""
    scoped = {name.replace("_", ":", 1): value for name, value in delta.items()}
    return Event(author="user", actions=EventActions(state_delta=scoped))


async def loaded(service: BaseSessionService, session: Session) -> Session:
    found = await service.get_session(
        app_name=session.app_name, user_id=session.user_id, session_id=session.id
    )
    assert found is not None
    return found


def event_of(*parts: types.Part, role: str = "model", **fields: Any) -> Event:
    return Event(author="agent", content=types.Content(role=role, parts=list(parts)), **fields)


def call(id: str, **args: Any) -> types.Part:
    return types.Part(function_call=types.FunctionCall(id=id, name="look", args=args))


def result(id: str, **response: Any) -> types.Part:
    return types.Part(
        function_response=types.FunctionResponse(id=id, name="look", response=response)
    )


EVENTS = {
    "text": event_of(types.Part(text="Grüße 🙂\x00\n"), role="user"),
    "parallel calls": event_of(
        call("1", path="a", deep={"none": None, "list": [1, 1.5, True]}),
        call("2"),
        long_running_tool_ids={"1", "2"},
    ),
    "parallel results": event_of(result("1", output=[None, {"a": None}]), result("2", error="no")),
    "image": event_of(types.Part.from_bytes(data=bytes(range(256)), mime_type="image/png")),
    "audio": event_of(types.Part.from_bytes(data=b"\xff\xfb\x90", mime_type="audio/mp3")),
    "file": event_of(types.Part.from_uri(file_uri="gs://b/f.pdf", mime_type="application/pdf")),
    "video": event_of(
        types.Part(
            file_data=types.FileData(file_uri="https://youtu.be/x"),
            video_metadata=types.VideoMetadata(start_offset="1s", end_offset="5s", fps=2.0),
        )
    ),
    "reasoning with a signature": event_of(
        types.Part(text="Hm.", thought=True, thought_signature=b"\x00\xfe\xff>?"),
        types.Part(text="So."),
    ),
    "code": event_of(
        types.Part(executable_code=types.ExecutableCode(code="1+1", language="PYTHON")),
        types.Part(
            code_execution_result=types.CodeExecutionResult(outcome="OUTCOME_OK", output="2")
        ),
    ),
    "no parts": event_of(),
    "no content": Event(author="agent"),
    "citations and grounding": event_of(
        types.Part(text="As written."),
        citation_metadata=types.CitationMetadata(
            citations=[types.Citation(start_index=0, end_index=3, uri="https://x", title="X")]
        ),
        grounding_metadata=types.GroundingMetadata(
            web_search_queries=["x"], search_entry_point=types.SearchEntryPoint(sdk_blob=b"\xff")
        ),
    ),
    "usage": event_of(
        types.Part(text="Cheap."),
        usage_metadata=types.GenerateContentResponseUsageMetadata(
            prompt_token_count=1, cached_content_token_count=2, thoughts_token_count=3
        ),
        finish_reason=types.FinishReason.MAX_TOKENS,
        avg_logprobs=-0.25,
        custom_metadata={"null": None, "float": 1.0, "nested": [{}]},
    ),
    "refusal": Event(author="agent", error_code="SAFETY", error_message="no", interrupted=True),
    "transcription": Event(
        author="agent",
        input_transcription=types.Transcription(text="hi", finished=True),
        output_transcription=types.Transcription(text="ho", finished=False),
        turn_complete=True,
    ),
    "actions": Event(
        author="agent",
        branch="a.b",
        timestamp=1700000000.123456,
        output={"any": [1, None]},
        actions=EventActions(
            state_delta={"none": None, "list": [1, {"x": None}], "app:a": 1, "user:u": "ü"},
            artifact_delta={"f": 0},
            transfer_to_agent="b",
            escalate=True,
            skip_summarization=False,
            requested_tool_confirmations={"1": ToolConfirmation(hint="sure?", confirmed=True)},
            agent_state={"step": None},
            end_of_agent=False,
        ),
    ),
}
