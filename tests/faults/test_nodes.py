"""The short form of the faults of several nodes, on the engines that start within seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.labs import open_lab
from tests.faults.node_phases import NodeProof

_SEED = 20261127


@pytest.mark.parametrize(
    ("name", "phase"),
    [
        ("postgresql_standby", "node_lost"),
        # A master of Redis that is killed may take what it has not passed on with it.
        ("sentinel", "switchover"),
        ("redis_nodes", "switchover"),
        ("valkey_nodes", "switchover"),
    ],
)
def test_what_several_nodes_acknowledged_outlives_the_loss_of_one(
    name: str, phase: str, tmp_path: Path
) -> None:
    with open_lab(name, tmp_path) as lab:
        proof = NodeProof(lab, tmp_path, _SEED)
        getattr(proof, phase)(1)
    assert not proof.problems, "\n".join([f"seed {_SEED}", *proof.problems[:20]])
    (row,) = proof.rows
    assert row["acknowledged"] > 0
    assert row["lost"] == row["doubled"] == row["moved"] == row["other errors"] == 0
