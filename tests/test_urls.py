"""Opening by URL."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from agentx_persistence import (
    ConfigurationError,
    ContainerRecord,
    create_persistence,
)


def test_no_target_and_the_scheme_memory_are_a_store_in_memory() -> None:
    for persistence in (create_persistence(), create_persistence("memory:")):
        with persistence:
            persistence.containers.save(ContainerRecord(container_id="c"))
            assert persistence.containers.exists("c")


def test_an_error_about_a_url_does_not_show_its_password() -> None:
    for url in ("oracle://scott:tiger@host/db", "scott:tiger@host", "//scott:tiger@host"):
        with pytest.raises(ConfigurationError) as raised:
            create_persistence(url)
        assert "tiger" not in str(raised.value)


def test_another_package_adds_a_scheme_by_an_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other_store.py").write_text(
        "from agentx_persistence import memory_driver\n"
        "asked = []\n"
        "def driver(url, **options):\n"
        "    asked.append((url, options))\n"
        "    return memory_driver()\n"
    )
    info = tmp_path / "other_store-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other-store\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[agentx_persistence.drivers]\nother = other_store:driver\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with create_persistence("other://host/place", color="red") as persistence:
        persistence.ping()
    assert sys.modules["other_store"].asked == [("other://host/place", {"color": "red"})]
    with pytest.raises(ConfigurationError, match="other, "):
        create_persistence("unknown://")
