"""The SDK's own tests of sessions, from its source distribution, on our sessions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_FILES = [
    "tests/memory/test_session.py",
    "tests/memory/test_session_limit.py",
    "tests/memory/test_compaction_model_visibility.py",
    "tests/memory/test_openai_responses_compaction_session.py",
    "tests/extensions/memory/test_encrypt_session.py",
]
_HERE = Path(__file__).parent


@pytest.mark.timeout(900)
def test_the_sdks_own_tests_pass(sources: Path) -> None:
    (folder,) = sources.glob("openai_agents-*/")
    paths = [os.environ["PYTHONPATH"], str(_HERE)]
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "sdk_plugin"),
            *("--timeout", "120", *_FILES),
        ],
        cwd=folder,  # its folder `tests` goes before ours
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
