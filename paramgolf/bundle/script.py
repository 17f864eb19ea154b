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
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tokenizer", default="")
    parser.add_argument("--seed", type=int, default=run.seed)
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--device", default="auto")
    asked = parser.parse_args()
    run_script(replace(run, seed=asked.seed), script_dataset(asked.data, asked.tokenizer), asked.out, asked.device)


def run_script(run: Run, dataset: Dataset, out: Path, device: str) -> None:
    """Train, export and score; everything goes to `out`."""
    with placed(device) as place:
        folder = RunFolder(out)
        out.mkdir(parents=True, exist_ok=True)
        heard = (LogPrinter(folder.log),) if place.first else ()
        execute(Session(run=run, folder=folder, dataset=dataset, place=place, events=Events(None, heard)))


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
    train, val, sidecars = find_shards(folder, "train"), find_shards(folder, "val"), find_sidecars(folder, "val")
    return Dataset(folder.name, train, val, sidecars, model, data_fingerprint(train + val + sidecars, model))
