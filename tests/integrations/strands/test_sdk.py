"""The SDK's own tests of sessions, from its source distribution, on our sessions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_FILES = [
    "tests/strands/session/test_file_session_manager.py",
    "tests/strands/session/test_repository_session_manager.py",
    "tests/strands/session/test_snapshot_session_manager.py",
    "tests/strands/storage/test_in_memory_storage.py",
]
_HERE = Path(__file__).parent


@pytest.mark.timeout(900)
def test_the_sdks_own_tests_pass(sources: Path) -> None:
    (folder,) = sources.glob("strands_agents-*/")
    # The SDK's folder `tests` goes before ours.
    paths = [str(folder), os.environ["PYTHONPATH"], str(_HERE)]
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "sdk_plugin"),
            *("--timeout", "120", *_FILES),
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
