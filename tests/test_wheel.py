from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

_CHECKOUT = Path(__file__).parents[1]


def _run(command: list[str | Path], folder: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    ended = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    _run([sys.executable, "-m", "build", "--wheel", "--outdir", folder, _CHECKOUT], folder)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_has_the_migrations_the_types_and_no_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "agentx_persistence/py.typed" in names
    for name in ("env.py", "script.py.mako", "versions/agentx_0001_tables.py"):
        assert f"agentx_persistence/_sql/migrations/{name}" in names
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"agentx_persistence"}


def test_the_wheel_opens_a_new_database_away_from_the_checkout(wheel: Path, tmp_path: Path) -> None:
    python = tmp_path / "environment" / "bin" / "python"
    _run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "environment"], tmp_path)
    pip: list[str | Path] = [sys.executable, "-m", "pip", "--python", python]
    _run([*pip, "install", "--quiet", f"{wheel}[sqlite]"], tmp_path)
    program = (
        "import agentx_persistence, pathlib\n"
        "from agentx_persistence import ContainerRecord, create_persistence\n"
        "from agentx_persistence.sqlite import sqlite_driver\n"
        "with create_persistence(sqlite_driver('new/agentx.db')) as persistence:\n"
        "    persistence.containers.save(ContainerRecord(container_id='c'))\n"
        "    print(persistence.containers.exists('c'), agentx_persistence.__file__)\n"
    )
    opened, _, where = _run([python, "-W", "error", "-c", program], tmp_path).partition(" ")
    assert opened == "True"
    assert Path(where.strip()).is_relative_to(tmp_path)
    checked = _run(
        [python, "-m", "agentx_persistence", "check", "sqlite:///new/agentx.db"], tmp_path
    )
    assert "current" in checked
