"""`lint`: what is wrong with a submission."""

from pathlib import Path

from paramgolf.cli.options import Json, Switch
from paramgolf.cli.output import print_json, print_text


def lint_command(path: Path, /, *, run: Switch = False, json: Json = False) -> int:
    """Find what is wrong with a submission folder, ours or not. Exit code 1 if something is.

    Files, JSON, bytes and times of every seed, scores against losses, logs and code.

    Parameters
    ----------
    path
        A submission's folder; or one submission.json or training log by itself.
    run
        Also start the script, in a copy of the folder.
    json
        Print as JSON.
    """
    from paramgolf.bundle.lint import lint
    from paramgolf.contest import Contest

    found = lint(path, Contest(), start=run)
    if json:
        print_json([finding._asdict() for finding in found])
    for finding in [] if json else found:
        print_text(f"{finding.severity}: {finding.file}: {finding.cause}")
        print_text(f"  evidence: {finding.evidence}\n  rule: {finding.rule}")
        if finding.fix:
            print_text(f"  next: {finding.fix}")
    errors, warnings = (sum(finding.severity == kind for finding in found) for kind in ("error", "warning"))
    if not json:
        print_text(f"{path}: {errors} errors, {warnings} warnings")
    return int(errors > 0)
