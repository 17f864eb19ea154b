"""Time of one optimizer step of a preset with each technique of the optimizer, in one process.

    python benchmarks/optimizer_techniques.py [--preset pr1855] [--repeats 30] [--width 0]

On a GPU the step is compiled, and any wait for the device inside it is an error. `--width` makes the model smaller.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from paramgolf.model.gpt import GPT
from paramgolf.optim.groups import OptimConfig, Optimizer
from paramgolf.optim.schedule import Progress
from paramgolf.presets import preset
from paramgolf.run import Run
from paramgolf.techniques.optim import EMA, CautiousDecay, ClassicQuintic, EMANesterov, NorMuon, PerHead


def variants(optim: OptimConfig) -> dict[str, OptimConfig]:
    """The preset's own optimizer and what one change makes of it."""
    matrix = optim.matrix
    return {
        "as it is": optim,
        "no average": replace(optim, average=None),
        "ema every 4": replace(optim, average=EMA(decay=0.9965, every=4)),
        "no row_norm": replace(optim, on_update=()),
        "classic_quintic": replace(optim, matrix=replace(matrix, quintics=ClassicQuintic())),
        "per_head": replace(optim, matrix=replace(matrix, split=PerHead())),
        "cautious_decay": replace(optim, matrix=replace(matrix, decay_share=CautiousDecay())),
        "normuon": replace(optim, on_direction=(NorMuon(),)),
        "ema_nesterov": replace(optim, look_ahead=EMANesterov()),
    }


def timed_step(run: Run, optim: OptimConfig, device: str) -> Callable[[], float]:
    """A function that takes one step and returns its milliseconds."""
    torch.manual_seed(0)
    model = GPT(run.model)
    model.reset()
    model.to(device)
    optimizer = Optimizer(model, optim, compiled=device == "cuda")
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter) * 1e-3
    done = 0

    def step() -> float:
        nonlocal done
        progress = Progress(0.3, done, 1000.0)
        began = time.perf_counter()
        if device == "cuda" and done > 2:
            torch.cuda.set_sync_debug_mode("error")
        optimizer.look(progress)
        optimizer.step(progress)
        if device == "cuda":
            torch.cuda.set_sync_debug_mode("default")
            torch.cuda.synchronize()
        done += 1
        return 1000 * (time.perf_counter() - began)

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="pr1855")
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--width", type=int, default=0)
    args = parser.parse_args()
    run = preset(args.preset)
    if args.width:
        run = replace(run, model=replace(run.model, dim=args.width))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(f"{args.preset}, torch {torch.__version__}, {torch.cuda.get_device_name() if device == 'cuda' else 'CPU'}")
    print("optimizer          first ms   median ms    ratio")
    plain = 0.0
    for name, optim in variants(run.optim).items():
        torch._dynamo.reset()
        step = timed_step(run, optim, device)
        first = sum(step() for _ in range(3))
        median = statistics.median(step() for _ in range(args.repeats))
        plain = plain or median
        print(f"{name:16} {first:10.1f} {median:11.2f} {median / plain:8.2f}", flush=True)


if __name__ == "__main__":
    main()
