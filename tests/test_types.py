"""Type checkers agree with what the documents and the examples do, and know every public name."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.test_docs import WITH_CODE, code_blocks

_ROOT = Path(__file__).parents[1]
_EXAMPLES = _ROOT / "examples"

# What must be accepted, and what must not: a line that ends with "# wrong".
_USES = """
from typing import assert_type

from agentx_persistence import (
    AssistantMessage, ErrorMessage, ImageRecord, ItemRecord, Message, MessageRecord, OtherMessage,
    OtherPart, Part, SessionRecord, SystemMessage, TextOutput, TextPart, ThinkingPart,
    ToolCallMessage, ToolCallPart, ToolResultMessage, ToolResultPart, UserMessage, parse_message,
)

texts: list[TextPart] = [TextPart(text="a")]
UserMessage(content=texts)
UserMessage(content=tuple(texts))
result = ToolResultPart(id="a", output=TextOutput(value=""))
AssistantMessage(content=[*texts, ThinkingPart(), result])
AssistantMessage()
parts: list[Part] = [OtherPart(type="x", anything=1), *texts]
UserMessage(content=parts)
ToolCallPart(id="a", name="b", input='{"a": ')
other = OtherMessage(role="model", subtype="gemini", parts=[{"text": "a"}])
print(other.parts)
ItemRecord(namespace=("a", "b"), key="k", value=b"x")
SessionRecord(title="x", metadata={"a": 1})
UserMessage(content=5)  # wrong
UserMessage(contents="a")  # wrong
TextPart(txt="a")  # wrong
ImageRecord(system_prompt="a")  # wrong
SystemMessage(role="user", content="a")  # wrong


def describe(message: Message) -> str:
    assert_type(message.text, str)
    assert_type(message.id, str)
    assert_type(message.timestamp, int)
    match message:
        case UserMessage(content=str(text)):
            return text
        case UserMessage() | AssistantMessage() | ErrorMessage() | SystemMessage():
            for part in message.content or ():
                if isinstance(part, ToolResultPart):
                    assert_type(part, ToolResultPart)
            return message.role
        case ToolCallMessage():
            assert_type(message.tool_call, ToolCallPart)
            return message.tool_call.name
        case ToolResultMessage():
            return message.tool_call_id
        case OtherMessage():
            return str(message.whatever)


def first(messages: list[MessageRecord]) -> str:
    return messages[0].text + messages[0].role  # wrong


assert_type(hash(parse_message({})), int)
"""


def _run(*command: str, folder: Path = _ROOT) -> str:
    paths = {"PYTHONPATH": str(_ROOT), "MYPYPATH": os.pathsep.join([str(_ROOT), str(folder)])}
    # pyright asks the first Python of the path for its packages.
    paths["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    ended = subprocess.run(
        [sys.executable, "-m", *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
        cwd=folder,
        env={**os.environ, **paths, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"},
    )
    return ended.stdout + ended.stderr


def _mypy(folder: Path) -> str:
    cache = f"--cache-dir={_ROOT / '.mypy_cache' / 'examples'}"
    options = ("--strict", "--follow-imports=silent", "--config-file=", cache)
    options += ("--explicit-package-bases", "--exclude=/versions/")
    return _run("mypy", *options, ".", folder=folder)


def _pyright(folder: Path) -> str:
    settings = {"extraPaths": [str(_ROOT)], "typeCheckingMode": "standard"}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    return _run("pyright", "--project", str(folder), "--pythonpath", sys.executable)


Check = Callable[[Path], str]
CHECKERS = [pytest.param(_mypy, id="mypy"), pytest.param(_pyright, id="pyright")]


def _code(document: Path) -> str:
    future = "from __future__ import annotations\n"
    return future + "\n".join(code_blocks(document)).replace(future, "")


@pytest.mark.parametrize("check", CHECKERS)
def test_the_code_of_the_documents_and_the_examples_is_clean(tmp_path: Path, check: Check) -> None:
    for document in WITH_CODE:
        name = "document_" + document.stem.replace("-", "_").lower()
        (tmp_path / f"{name}.py").write_text(_code(document), "utf-8")
    shutil.copytree(_EXAMPLES, tmp_path, dirs_exist_ok=True)
    said = check(tmp_path)
    assert re.search(r"^(Success: no issues found|0 errors)", said, re.MULTILINE), said


@pytest.mark.parametrize("check", CHECKERS)
def test_what_is_right_is_accepted_and_what_is_wrong_is_not(tmp_path: Path, check: Check) -> None:
    (tmp_path / "uses.py").write_text(_USES, "utf-8")
    said = check(tmp_path)
    refused = {int(number) for number in re.findall(r"uses\.py:(\d+).*?error:?", said)}
    wrong = {n for n, line in enumerate(_USES.splitlines(), 1) if line.endswith("# wrong")}
    assert refused == wrong, said


def test_nearly_every_public_name_has_a_known_type() -> None:
    said = _run("pyright", "--verifytypes", "agentx_persistence", "--ignoreexternal")
    found = re.search(r"Type completeness score: ([\d.]+)%", said)
    assert found, said
    assert float(found[1]) >= 95, said
