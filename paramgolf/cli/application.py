"""The tree of commands."""

import sys
from collections.abc import Callable

from cyclopts import App

from paramgolf import __version__
from paramgolf.cli.analyze import (
    bytes_command,
    clip_command,
    codecs_command,
    pareto_command,
    permute_command,
    residuals_command,
    sensitivity_command,
)
from paramgolf.cli.bundle import bundle_command
from paramgolf.cli.catalogue import diff_command, presets_command, techniques_command
from paramgolf.cli.data_commands import check_command, fetch_command, prepare_command, retokenize_command
from paramgolf.cli.health import doctor_command, estimate_command
from paramgolf.cli.lint import lint_command
from paramgolf.cli.output import stdout_console
from paramgolf.cli.past import list_command, show_command
from paramgolf.cli.running import export_command, run_command, score_command, train_command
from paramgolf.cli.submit import submit_command
from paramgolf.cli.verify import verify_command

ABOUT = """Train the best language model whose code and compressed weights fit a byte budget, scored in bits per byte.

--json, where a command has it, prints what it reads as JSON. --traceback shows where an error came from.

Exit codes: 0 ok, 1 failed check or damaged input, 2 usage, 3 over the byte budget, 4 over the time budget,
130 interrupted."""

EXAMPLES = {
    "": ("paramgolf run demo", "paramgolf presets baseline"),
    "run": ("paramgolf run demo", "paramgolf run baseline --set optim.matrix.lr=0.03 --seed 42 --resume auto"),
    "train": ("paramgolf train demo", "paramgolf train demo --data my_texts --set train.steps=100"),
    "export": ("paramgolf export runs/FOLDER", "paramgolf export runs/FOLDER --target-bytes 15_900_000"),
    "score": ("paramgolf score runs/FOLDER", "paramgolf score runs/FOLDER --json"),
    "presets": ("paramgolf presets", "paramgolf presets baseline --json"),
    "diff": ("paramgolf diff baseline demo", "paramgolf diff baseline runs/FOLDER --json"),
    "techniques": ("paramgolf techniques", "paramgolf techniques rope"),
    "estimate": ("paramgolf estimate baseline", "paramgolf estimate baseline --set model.layers=11 --json"),
    "verify": ("paramgolf verify runs/FOLDER", "paramgolf verify my_module:Predictor --data data --html report.html"),
    "submit": (
        "paramgolf submit runs/SEED_1 runs/SEED_2 runs/SEED_3 --name Wide --author A --github-id a --blurb Wider.",
        "paramgolf submit demo --seeds 1,2,3 --best 1.0611 --name Wide --author A --github-id a --blurb Wider.",
    ),
    "lint": ("paramgolf lint records/track_10min_16mb/FOLDER", "paramgolf lint submission.json --json"),
    "bundle": ("paramgolf bundle pr1855 --out submission", "paramgolf bundle runs/FOLDER --packing base85 --json"),
    "doctor": ("paramgolf doctor", "paramgolf doctor --json"),
    "data": ("paramgolf data prepare stdlib", "paramgolf data check data"),
    "data prepare": (
        "paramgolf data prepare stdlib --variant sp1024",
        "paramgolf data prepare my_texts --variant byte260 --out data/mine --val-documents 500",
    ),
    "data fetch": ("paramgolf data fetch sp1024 --train-shards 1", "paramgolf data fetch sp1024 --out data"),
    "data retokenize": (
        "paramgolf data retokenize docs_selected.jsonl --variant sp4096",
        "paramgolf data retokenize docs_selected.jsonl --variant byte260 --variant 8192=my.model --out data",
    ),
    "data check": ("paramgolf data check data", "paramgolf data check data --disjoint --json"),
    "runs": ("paramgolf runs list", "paramgolf runs show runs/FOLDER"),
    "runs list": ("paramgolf runs list", "paramgolf runs list --runs elsewhere/runs --json"),
    "runs show": ("paramgolf runs show runs/FOLDER", "paramgolf runs show runs/FOLDER --json"),
    "analyze": ("paramgolf analyze bytes runs/FOLDER", "paramgolf analyze pareto runs/FOLDER"),
    "analyze bytes": ("paramgolf analyze bytes runs/FOLDER", "paramgolf analyze bytes runs/FOLDER --by tensor --json"),
    "analyze sensitivity": (
        "paramgolf analyze sensitivity runs/FOLDER --by role",
        "paramgolf analyze sensitivity pr1855 --weights FILE.safetensors --data data --tokens 100000",
    ),
    "analyze permute": (
        "paramgolf analyze permute runs/FOLDER",
        "paramgolf analyze permute runs/FOLDER --set artifact.coder=brotli --json",
    ),
    "analyze residuals": (
        "paramgolf analyze residuals runs/FOLDER",
        "paramgolf analyze residuals runs/FOLDER --budget 900000 --role mlp --bits 3",
    ),
    "analyze clip": (
        "paramgolf analyze clip runs/FOLDER",
        "paramgolf analyze clip runs/FOLDER --vary quant.mlp.quantile=0.99,0.999,1",
    ),
    "analyze codecs": ("paramgolf analyze codecs runs/FOLDER", "paramgolf analyze codecs runs/FOLDER --json"),
    "analyze pareto": (
        "paramgolf analyze pareto runs/FOLDER --coder brotli --coder lzma",
        "paramgolf analyze pareto runs/FOLDER --vary quant.mlp.floor=0.004,0.008,0.016 --out charts",
    ),
}
"""Two examples a command; its help begins with them, and a test parses them."""


def examples(path: str) -> str:
    """What stands at the top of the help of the command `path`."""
    return "Examples:\n" + "\n".join(f"  {line}" for line in EXAMPLES[path])


def application() -> App:
    """The whole command line. Parsing errors are raised, results returned."""
    app = App(
        name="paramgolf",
        help=ABOUT,
        help_prologue=examples(""),
        help_format="plaintext",
        help_formatter="default" if sys.stdout.isatty() else "plain",
        version=__version__,
        console=stdout_console(),
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
        result_action="return_value",
    )
    top: tuple[tuple[str, Callable[..., int]], ...] = (
        ("run", run_command),
        ("train", train_command),
        ("export", export_command),
        ("score", score_command),
        ("presets", presets_command),
        ("diff", diff_command),
        ("techniques", techniques_command),
        ("estimate", estimate_command),
        ("verify", verify_command),
        ("bundle", bundle_command),
        ("submit", submit_command),
        ("lint", lint_command),
        ("doctor", doctor_command),
    )
    for name, command in top:
        app.command(command, name=name, help_prologue=examples(name))
    data = App(name="data", help="Prepare, fetch and check data.", help_prologue=examples("data"))
    on_data: tuple[tuple[str, Callable[..., int]], ...] = (
        ("prepare", prepare_command),
        ("fetch", fetch_command),
        ("retokenize", retokenize_command),
        ("check", check_command),
    )
    for name, command in on_data:
        data.command(command, name=name, help_prologue=examples(f"data {name}"))
    runs = App(name="runs", help="Look at past runs.", help_prologue=examples("runs"))
    on_runs: tuple[tuple[str, Callable[..., int]], ...] = (("list", list_command), ("show", show_command))
    for name, command in on_runs:
        runs.command(command, name=name, help_prologue=examples(f"runs {name}"))
    analyze = App(name="analyze", help="Measure exports of one trained checkpoint.", help_prologue=examples("analyze"))
    on_checkpoint: tuple[tuple[str, Callable[..., int]], ...] = (
        ("bytes", bytes_command),
        ("sensitivity", sensitivity_command),
        ("permute", permute_command),
        ("residuals", residuals_command),
        ("clip", clip_command),
        ("codecs", codecs_command),
        ("pareto", pareto_command),
    )
    for name, command in on_checkpoint:
        analyze.command(command, name=name, help_prologue=examples(f"analyze {name}"))
    app.command(data)
    app.command(runs)
    app.command(analyze)
    return app
