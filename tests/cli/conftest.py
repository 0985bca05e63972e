from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from agentx_persistence import (
    AssistantMessage,
    ImagePart,
    ImageRecord,
    SessionRecord,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolResultMessage,
    ToolResultPart,
    Usage,
    UserMessage,
    create_persistence,
)
from agentx_persistence.cli import main
from agentx_persistence.records.parts import TextOutput


class Ended(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Runs the command as its script does, with no terminal."""

    def run(*arguments: object) -> Ended:
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        return Ended(status, *capsys.readouterr())

    return run


@pytest.fixture
def empty(migrated_file: Path, tmp_path: Path) -> str:
    """The URL of an empty store."""
    shutil.copy(migrated_file, tmp_path / "empty.db")
    return f"sqlite:///{tmp_path}/empty.db"


@pytest.fixture
def store(migrated_file: Path, tmp_path: Path) -> str:
    """The URL of a store with one conversation about the weather."""
    shutil.copy(migrated_file, tmp_path / "store.db")
    url = f"sqlite:///{tmp_path}/store.db"
    session = SessionRecord(
        session_id="talk", title="Weather \x1b[31m[bold]", container_id="user", image_id="agent"
    )
    output = TextOutput(value="rain\n" * 100)
    with create_persistence(url) as persistence:
        persistence.images.save(ImageRecord(image_id="agent", container_id="user", model="m-1"))
        persistence.sessions.add_messages(
            "talk",
            [
                UserMessage(
                    id="m1",
                    content=[
                        TextPart(text="Is it raining?\x07"),
                        ImagePart(data="QUJD" * 1000, media_type="image/png"),
                    ],
                    timestamp=0,
                ),
                AssistantMessage(
                    id="m2",
                    content=[
                        ThinkingPart(reasoning="Let me see."),
                        ToolCallPart(id="1", name="weather", input={"days": list(range(500))}),
                    ],
                ),
                ToolResultMessage(
                    id="m3",
                    tool_call_id="1",
                    tool_result=ToolResultPart(id="1", name="weather", output=output),
                ),
                AssistantMessage(
                    id="m4", content="Yes.", usage=Usage(input_tokens=120, output_tokens=9)
                ),
            ],
            create=session,
        )
    return url
