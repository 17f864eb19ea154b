"""Draw the training loss of finished runs over their training time, with the score of each at its end.

python examples/plot_run.py runs/*baseline* --out baseline.svg
"""

import argparse
from pathlib import Path

import matplotlib as mpl

from paramgolf.events import read_events


def curve(folder: Path) -> tuple[list[float], list[float]]:
    """Training seconds and loss (nats a token) of every logged step; of a resumed run, the last time it was done."""
    steps = {event["step"]: event for event in read_events(folder / "events.jsonl") if event["event"] == "step"}
    ordered = [steps[step] for step in sorted(steps)]
    return [event["train_seconds"] for event in ordered], [event["loss"] for event in ordered]


def outcome(folder: Path) -> dict[str, float]:
    """The result that the run's event stream ends with."""
    return next(event for event in read_events(folder / "events.jsonl") if event["event"] == "finished")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=Path("run.svg"))
    options = parser.parse_args()
    mpl.use("Agg")
    from matplotlib import pyplot

    mpl.rcParams.update(
        {"svg.hashsalt": "paramgolf", "font.size": 11, "axes.spines.top": False, "axes.spines.right": False}
    )
    figure, axes = pyplot.subplots(figsize=(8, 4.2), layout="constrained")
    for folder in options.folders:
        result = outcome(folder)
        scores = f"{result['val_bpb_raw']:.4f} bpb before export, {result['val_bpb_export']:.4f} from the artifact"
        label = f"seed {result['seed']}: {scores}"
        axes.plot(*curve(folder), marker=".", linewidth=1.2, label=label)
    axes.set(xlabel="training time, s", ylabel="training loss, nats a token", yscale="log")
    axes.set_ylim(top=8.0)  # the first steps jump above the loss of a uniform guess; that is not what one looks for
    ticks = [tick for tick in (2, 2.5, 3, 4, 5, 6, 7, 8, 10) if axes.get_ylim()[0] <= tick <= axes.get_ylim()[1]]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    axes.set_title(
        f"{result['preset']}: {result['params']:,} parameters, {result['total_bytes']:,} bytes, {result['device']}"
    )
    figure.savefig(options.out, metadata={"Date": None} if options.out.suffix == ".svg" else None)
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
