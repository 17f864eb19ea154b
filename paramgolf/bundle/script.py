"""What a bundled script does: train, export and score one run, in one process or under torchrun."""

import argparse
from dataclasses import replace
from pathlib import Path

from paramgolf.challenge_log import log_lines
from paramgolf.data.dataset import Dataset, data_fingerprint
from paramgolf.data.shards import find_shards, find_sidecars
from paramgolf.data.tokenizers import load_tokenizer
from paramgolf.events import Event, Events
from paramgolf.folder import RunFolder
from paramgolf.run import Run
from paramgolf.stages import Session, execute
from paramgolf.train.distributed import placed


def main_script(run: Run) -> None:
    """Run from the command line: `torchrun --nproc_per_node 8 train_gpt.py --data FOLDER --seed 1 --out FOLDER`."""
    parser = argparse.ArgumentParser()
    options = {"--data": ".", "--tokenizer": "", "--seed": run.seed, "--out": "out", "--device": "auto"}
    for name, default in options.items():
        parser.add_argument(name, type=type(default), default=default)
    asked = parser.parse_args()
    dataset = script_dataset(Path(asked.data), asked.tokenizer)
    run_script(replace(run, seed=asked.seed), dataset, Path(asked.out), asked.device)


def run_script(run: Run, dataset: Dataset, out: Path, device: str) -> None:
    """Train, export and score; everything goes to `out`."""
    with placed(device) as place:
        folder = RunFolder(out)
        out.mkdir(parents=True, exist_ok=True)
        events = script_events(folder.log, first=place.first)
        execute(Session(run=run, folder=folder, dataset=dataset, place=place, events=events))


def script_events(log: Path, *, first: bool) -> Events:
    """What the first rank tells goes to the file `log` and on the screen."""
    return Events(None, (LogPrinter(log),) if first else ())


class LogPrinter:
    """Puts the lines of the log into a file and on the screen."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("w", buffering=1)

    def __call__(self, event: Event) -> None:
        for line in log_lines(event):
            print(line, flush=True)
            print(line, file=self.file)


def script_dataset(folder: Path, tokenizer: str) -> Dataset:
    """The shards in `folder`, read by the tokenizer `tokenizer`: by default the only model two folders above."""
    model = load_tokenizer(tokenizer or next(folder.parent.parent.rglob("*.model")))
    text, val, sidecars = find_shards(folder, "train"), find_shards(folder, "val"), find_sidecars(folder, "val")
    return Dataset(folder.name, text, val, sidecars, model, data_fingerprint(text + val + sidecars, model))
