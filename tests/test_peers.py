"""What `python -m benchmarks peers` measures; the peers themselves take a network to install."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.peers.comparison import Limits, compare
from benchmarks.peers.environments import Peer, PeerError, Worker, our_command


class OursAsPeer(Peer):
    def command(self) -> list[str]:
        return our_command()


def urls(folder: Path) -> tuple[str, str]:
    return f"sqlite:///{folder}/ours.db", f"sqlite:///{folder}/theirs.db"


def test_each_operation_is_measured_at_each_size(tmp_path):
    peer = OursAsPeer("ours", "", (), "", ("sqlite",))

    results = list(compare(peer, "sqlite", urls(tmp_path), tmp_path, Limits(5, 100, 1)))

    assert [(found.operation, found.stored) for found in results] == [
        ("append", 0),
        ("append", 100),
        ("turn", 0),
        ("turn", 100),
        ("load", 100),
        ("list", 100),
    ]
    assert all(found.ratio > 0 for found in results)


def test_a_peer_that_does_not_run_is_a_result(tmp_path):
    class Broken(Peer):
        def command(self) -> list[str]:
            return [our_command()[0], "-c", "raise SystemExit('no such library')"]

    peer = Broken("broken", "", (), "", ("sqlite",))

    (found,) = compare(peer, "sqlite", urls(tmp_path), tmp_path, Limits(5, 100, 1))

    assert found.theirs is None
    assert "no such library" in found.note


def test_what_a_call_returns_is_checked(tmp_path):
    with Worker(our_command(), tmp_path) as worker:
        worker.ask("open", url=urls(tmp_path)[0], processor=False)
        worker.ask("fill", arguments=["short", 49])

        with pytest.raises(PeerError, match="load returned 49 instead of 50"):
            worker.time("load", ["short"])
