"""A chat over HTTP with FastAPI. The model is called asynchronously, the store in threads.

pip install '.[sqlite]' fastapi uvicorn
cd examples
export CHAT_URL=sqlite:///chat.db
uvicorn --factory chat.app:create_app
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, ParamSpec, TypeVar

from fastapi import Depends, FastAPI, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from agentx_persistence import (
    AssistantMessage,
    BackendUnavailableError,
    InvalidRecordError,
    Message,
    PersistenceError,
    RecordConflictError,
    RecordNotFoundError,
    SessionRecord,
    SessionRepository,
    UserMessage,
    create_persistence,
)

P = ParamSpec("P")
T = TypeVar("T")
STATUS: dict[type[PersistenceError], int] = {
    RecordNotFoundError: 404,
    RecordConflictError: 409,
    InvalidRecordError: 422,
    BackendUnavailableError: 503,
}


class Said(BaseModel):
    """The client makes the id. If it gets no answer, it sends the same message again."""

    id: str
    text: str


class Shown(BaseModel):
    id: str
    role: str
    text: str


class Conversation(BaseModel):
    conversation: str
    messages: int
    last: str


class Conversations(BaseModel):
    conversations: list[Conversation]
    next: str | None


async def in_thread(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run the call in a thread. A cancelled request waits for its end: nothing is left half done,
    and nothing still runs when the store is closed."""
    running = asyncio.ensure_future(asyncio.to_thread(call, *args, **kwargs))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise


async def ask_model(history: Sequence[Message]) -> str:
    """Your model comes here."""
    await asyncio.sleep(0)
    return f"You said: {history[-1].text}"


async def sessions_of(request: Request) -> SessionRepository:
    sessions: SessionRepository = request.app.state.persistence.sessions
    return sessions


Sessions = Annotated[SessionRepository, Depends(sessions_of)]


def create_app(url: str | None = None) -> FastAPI:
    @asynccontextmanager
    async def opened(app: FastAPI) -> AsyncIterator[None]:
        """One store for each process, opened when the process starts."""
        with create_persistence(url or os.environ["CHAT_URL"]) as app.state.persistence:
            yield

    app = FastAPI(lifespan=opened)

    @app.post("/users/{user}/conversations/{conversation}")
    async def say(user: str, conversation: str, said: Said, sessions: Sessions) -> Shown:
        """Store the message and the model's answer. Sent again, it finds both."""
        # No user reaches the conversation of another: a path's parts contain no "/".
        session = SessionRecord(session_id=f"{user}/{conversation}", container_id=user)
        question = UserMessage(id=said.id, content=said.text)
        await in_thread(sessions.add_message, session.session_id, question, create=session)
        number = f"{said.id}-answer"
        answer = await in_thread(sessions.find_message, session.session_id, number)
        if answer is None:
            history = await in_thread(sessions.get_messages, session.session_id, last=50)
            answer = AssistantMessage(id=number, content=await ask_model(history))
            await in_thread(sessions.add_message, session.session_id, answer)
        return shown(answer)

    @app.get("/users/{user}/conversations/{conversation}")
    def read(
        user: str,
        conversation: str,
        sessions: Sessions,
        before: str | None = None,
        last: Annotated[int, Query(ge=1, le=200)] = 50,
    ) -> list[Shown]:
        """The newest messages; `before` the first of them the older ones."""
        found = sessions.get_messages(f"{user}/{conversation}", last=last, before=before)
        return [shown(message) for message in found]

    @app.get("/users/{user}/conversations")
    def conversations(user: str, sessions: Sessions, cursor: str | None = None) -> Conversations:
        """A page of the user's conversations, the last active one first."""
        page = sessions.find_page(container_id=user, order="active", size=20, cursor=cursor)
        summaries = sessions.summaries([session.session_id for session in page.items])
        return Conversations(
            conversations=[
                Conversation(
                    conversation=id.removeprefix(f"{user}/"),
                    messages=summary.message_count,
                    last=summary.last_message.text if summary.last_message else "",
                )
                for id, summary in summaries.items()
            ],
            next=page.next_cursor,
        )

    @app.exception_handler(PersistenceError)
    async def failed(request: Request, error: PersistenceError) -> JSONResponse:
        status = next((code for kind, code in STATUS.items() if isinstance(error, kind)), 500)
        return JSONResponse({"error": str(error) if status < 500 else "try again"}, status)

    return app


def shown(message: Message) -> Shown:
    return Shown(id=message.id, role=message.role, text=message.text)
