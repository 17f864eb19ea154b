"""`runs list` and `runs show`."""

from pathlib import Path

from paramgolf.cli.options import Json
from paramgolf.cli.output import print_json, print_rows, print_text


def list_command(*, runs: Path = Path("runs"), json: Json = False) -> int:
    """List the runs and what they came to.

    Parameters
    ----------
    runs
        Where their folders stand.
    json
        Print as JSON.
    """
    from paramgolf.lab.results import past_runs

    found = list(past_runs(runs))
    if json:
        print_json(
            [
                {"folder": str(past.folder), "state": past.state, "result": past.result and past.result.as_json()}
                for past in found
            ]
        )
        return 0
    if not found:
        print_text(f"no runs in {runs}; next: paramgolf run demo")
        return 0
    rows = [
        (past.folder.name, f"{r.val_bpb:.4f}", f"{r.total_bytes:,}", f"{r.steps:,}", f"{r.train_seconds:.0f} s")
        if (r := past.result)
        else (past.folder.name, past.state, "", "", "")
        for past in found
    ]
    print_rows(("run", "bpb", "bytes", "steps", "training"), rows, right=(1, 2, 3, 4))
    return 0


def show_command(folder: Path, /, *, json: Json = False) -> int:
    """Show the result of one run.

    Parameters
    ----------
    folder
        Folder of a run.
    json
        Print as JSON.
    """
    from paramgolf.cli.running import REFERENCES
    from paramgolf.cli.summary import print_summary
    from paramgolf.errors import UsageError
    from paramgolf.folder import opened
    from paramgolf.lab.launch import run_of
    from paramgolf.lab.reference import Reference
    from paramgolf.lab.results import read_result

    run = opened(folder)
    if not run.result.exists():
        raise UsageError(f"the run in {folder} is not finished", fix=f"paramgolf run --resume {folder}")
    result = read_result(run.result)
    if json:
        print_json(result.as_json())
        return 0
    kept = folder / REFERENCES
    scale = [Reference(**item) for item in run.read_json(kept)["references"]] if kept.exists() else []
    print_summary(result, run_of(run).contest, folder, scale)
    return 0
