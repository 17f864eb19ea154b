"""Two processes over gloo that share out one optimizer; started by `test_ranks.py`, prints one JSON object.

It forks both ranks from one interpreter, as importing torch takes longer than the work.
"""

import json
import os
import socket
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from paramgolf.optim.muon import Muon, MuonConfig
from paramgolf.techniques.optim import CautiousDecay, NorMuon, PerHead, RowNorm
from paramgolf.train.distributed import Place, average_over_ranks, placed

SHAPES = {"a": (16, 16), "b": (16, 16), "c": (16, 16), "wide": (8, 24), "q": (16, 12), "alone": (6, 6)}


def noise(name: str, seed: int) -> torch.Tensor:
    return torch.randn(SHAPES[name], generator=torch.Generator().manual_seed(seed + 100 * len(name)))


def work(place: Place, precision: str, steps: int = 6) -> dict[str, torch.Tensor]:
    """Weights and state after some steps on gradients whose mean over ranks does not depend on their number."""
    parameters = {name: nn.Parameter(noise(name, 0)) for name in SHAPES}
    config = MuonConfig(
        momentum_steps=3,
        weight_decay=0.1,
        split=PerHead(),
        decay_share=CautiousDecay(),
        precision=precision,  # type: ignore[arg-type]
    )
    slots = {"on_update": (RowNorm(),), "on_direction": (NorMuon(),)}
    muon = Muon(parameters, config, heads={"q": 4}, ranks=place, **slots)  # type: ignore[arg-type]
    for step in range(steps):
        for name, parameter in parameters.items():
            mine = 1 if place.world == 1 else 2 * place.rank  # the mean of 0 and 2 is 1
            parameter.grad = noise(name, step + 1) * mine
        average_over_ranks([parameter.grad for parameter in parameters.values()], place.world)
        muon.step_matrices(scale=1.0, step=step)
    weights = {name: parameter.detach() for name, parameter in parameters.items()}
    return weights | {f"state/{name}": tensor.contiguous() for name, tensor in muon.state().items()}


def one_rank(rank: int, port: int, folder: Path) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with placed("cpu") as place:
        for precision in ("float32", "bfloat16"):
            save_file(work(place, precision), folder / f"{precision}_{rank}.safetensors")


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(2):
        child = os.fork()
        if not child:
            one_rank(rank, port, folder)
            os._exit(0)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    told: dict[str, object] = {"codes": codes}
    for precision in ("float32", "bfloat16"):
        alone = work(Place(torch.device("cpu")), precision)
        first, second = (load_file(folder / f"{precision}_{rank}.safetensors") for rank in range(2))
        assert alone.keys() == first.keys() == second.keys()
        told[precision] = {
            "ranks": max((first[name] - second[name]).abs().max().item() for name in alone),
            "alone": max((first[name] - alone[name]).abs().max().item() for name in alone),
            "moved": min((alone[name] - noise(name, 0)).abs().max().item() for name in SHAPES),
        }
    print(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
