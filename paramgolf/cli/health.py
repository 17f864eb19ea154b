"""`doctor` and `estimate`: before anything is spent."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from paramgolf.cli.options import Device, Json, Settings
from paramgolf.cli.output import print_json, print_rows, print_text
from paramgolf.cli.progress import duration
from paramgolf.cli.script_size import ScriptSize

if TYPE_CHECKING:
    from paramgolf.lab.estimate import Estimate


def doctor_command(*, data_root: Path = Path("data"), runs: Path = Path("runs"), json: Json = False) -> int:
    """Look at Python, torch, devices, extras, disk and data; each problem with its fix. Exit code 1 if there is one.

    Parameters
    ----------
    data_root
        Where prepared data stands.
    runs
        Where folders of runs stand.
    json
        Print as JSON.
    """
    from paramgolf.lab.doctor import examine

    found = examine(data_root, runs)
    if json:
        print_json([diagnosis._asdict() for diagnosis in found])
    else:
        print_rows(("", "", "", ""), [(d.state, d.what, d.found, f"next: {d.fix}" if d.fix else "") for d in found])
    return int(any(diagnosis.state == "problem" for diagnosis in found))


def estimate_command(
    preset: str,
    /,
    *,
    settings: Settings = (),
    device: Device = "auto",
    runs: Path = Path("runs"),
    json: Json = False,
) -> int:
    """Say what a run will come to before anything is spent: parameters, bytes, steps, memory. Nothing is trained.

    Parameters
    ----------
    preset
        Name of a preset.
    settings
        Change one setting, as optim.matrix.lr=0.03; may be repeated.
    device
        The device to estimate the speed of, beside the contest's.
    runs
        Where past runs of the same configuration are looked for.
    json
        Print as JSON.
    """
    from paramgolf.lab.estimate import estimate
    from paramgolf.lab.launch import asked_run
    from paramgolf.train.distributed import pick_device

    run, here = asked_run(preset, settings), pick_device(device)
    told = estimate(run, device=here, runs=runs)
    # What the upper bound of the code does not settle its true size may, unless the artifact alone is too large.
    if not told.within_bytes and told.artifact_bytes < told.byte_budget:
        told = estimate(run, device=here, runs=runs, script_bytes=ScriptSize()(run))
    if json:
        extra = {"total_bytes": told.total_bytes, "within_bytes": told.within_bytes}
        paces = [pace._asdict() for pace in told.paces]
        print_json({**asdict(told), **extra, "paces": paces})
    else:
        print_estimate(told)
    return 0


def print_estimate(told: "Estimate") -> None:
    """An estimate as text."""
    print_text(f"{told.preset} {told.digest}: an estimate, nothing has been trained\n")
    roles = ", ".join(f"{role} {count:,}" for role, count in told.params_by_role.items())
    verdict = "" if told.within_bytes else f", {told.total_bytes - told.byte_budget:,} OVER THE BUDGET"
    rows = [
        ("parameters", f"{told.params:,}", roles),
        ("artifact", f"{told.artifact_bytes:,}", "bytes"),
        ("code", f"{told.code_bytes:,}", "bytes at most"),
        ("together", f"{told.total_bytes:,}", f"of {told.byte_budget:,}{verdict}"),
        ("memory", f"{told.memory_mib:,}", "MiB on each device"),
    ]
    print_rows(("", "", ""), rows, right=(1,))
    print_text()
    paces = [(p.device, f"{p.step_ms:,.1f}", f"{p.steps:,}", duration(p.train_seconds), p.basis) for p in told.paces]
    print_rows(("device", "ms a step", "steps", "training", "from"), paces, right=(1, 2, 3))
    print_text("\n" + "\n".join(f"- {line}" for line in told.assumptions))
