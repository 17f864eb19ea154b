"""Muon shared out over two processes steps as one process does."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from paramgolf.optim.muon import Muon, MuonConfig, share_of_directions
from paramgolf.optim.orthogonalize import orthogonalize


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    driver = Path(__file__).parent / "ranks_driver.py"
    command = [sys.executable, driver, tmp_path_factory.mktemp("ranks")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(("precision", "rounding"), [("float32", 1e-5), ("bfloat16", 1e-2)])
def test_two_ranks_step_as_one(told: dict[str, Any], precision: str, rounding: float) -> None:
    assert told["codes"] == [0, 0]
    assert told[precision]["ranks"] == 0.0, "the ranks drift apart"
    assert told[precision]["alone"] <= rounding
    assert told[precision]["moved"] > 0.05


@pytest.mark.parametrize("world", [1, 2, 3, 4, 7])
def test_shares_laid_together_are_the_whole(world: int) -> None:
    """Any number of ranks, more than matrices too; what lies beyond the last matrix is zero."""
    matrices = [torch.randn(6, 4, generator=torch.Generator().manual_seed(place)) for place in range(4)]
    names = {str(place): torch.zeros(6, 4) for place in range(4)}
    shares = []
    for rank in range(world):
        muon = Muon(names, MuonConfig(precision="float32"))
        shares.append(share_of_directions(muon.stacks[0], matrices, torch.tensor(0.5), muon.recipe, rank, world))
    together = torch.cat(shares)
    expected = orthogonalize(torch.stack(matrices), MuonConfig().quintics(5), torch.float32)
    torch.testing.assert_close(together[:4], expected)
    assert not together[4:].any()
    assert len({len(share) for share in shares}) == 1
