"""Muon shared out over two processes steps as one process does."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from paramgolf.optim.muon import Muon, MuonConfig, Rates, move, share_of_directions
from paramgolf.optim.orthogonalize import orthogonalize
from paramgolf.train.precision import allow_graphs


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
    shares, rates = [], Rates(torch.zeros(()), torch.tensor(0.5), torch.zeros(()))
    for rank in range(world):
        muon = Muon(names, MuonConfig(precision="float32"))
        shares.append(share_of_directions(muon.stacks[0], matrices, rates, muon.recipe, rank, world))
    together = torch.cat(shares)
    expected = orthogonalize(torch.stack(matrices), MuonConfig().quintics(5), torch.float32)
    torch.testing.assert_close(together[:4], expected)
    assert not together[4:].any()
    assert len({len(share) for share in shares}) == 1


class FirstOfTwo:
    """Ranks of which the other one does nothing."""

    rank, world = 0, 2

    def gather(self, share: Tensor) -> Callable[[], Tensor]:
        return lambda: torch.cat((share, torch.zeros_like(share)))


def test_more_shapes_of_matrices_than_torch_compiles_by_itself() -> None:
    """Shared out over ranks, each shape is a graph of its own: eleven layers of eleven widths have 24."""
    torch._dynamo.reset()
    with torch._dynamo.config.patch(recompile_limit=8):
        allow_graphs()
        matrices = {str(rows): nn.Parameter(torch.ones(rows, 4)) for rows in range(4, 13)}
        muon = Muon(matrices, MuonConfig(steps=1), ranks=FirstOfTwo())
        # As `compiled=True`, without generating code for nine shapes.
        muon.direct = torch.compile(share_of_directions, fullgraph=True, dynamic=False, backend="eager")
        muon.move = torch.compile(move, fullgraph=True, dynamic=False, backend="eager")
        for matrix in matrices.values():
            matrix.grad = torch.ones_like(matrix)
        muon.step_matrices(scale=1.0, step=0)
    assert all((matrix < 1).all() for matrix in matrices.values())
