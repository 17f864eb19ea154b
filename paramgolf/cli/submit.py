"""`submit`: from finished runs, or from a preset, to a submission's folder."""

import ast
import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cyclopts import Parameter

from paramgolf.cli.options import Json, RunOptions, Switch
from paramgolf.cli.output import print_json, print_rows, print_text
from paramgolf.errors import DataError, GolfError, UsageError

if TYPE_CHECKING:
    from paramgolf.bundle.submission import RivalScores, Submission, SubmissionCode, SubmissionSeed
    from paramgolf.run import Run


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Described:
    """What people say of a submission."""

    name: str = ""
    """Its title."""
    author: str = ""
    """Who made it."""
    github_id: str = ""
    """Their name on GitHub."""
    blurb: str = ""
    """What it does, in a sentence or two."""
    date: str | None = None
    """ISO date; by default today."""
    track: Literal["10min_16mb", "non_record_16mb"] = "10min_16mb"
    """Records, or everything else."""
    leave_out: str = ""
    """Why finished runs of this configuration do not count, if some do not."""


def submit_command(
    *what: str,
    options: RunOptions = RunOptions(),  # noqa: B008
    described: Described = Described(),
    seeds: str = "1,2,3",
    best: str | None = None,
    base: str = "baseline",
    script: Path | None = None,
    records: Path = Path("records"),
    overwrite: Switch = False,
    json: Json = False,
) -> int:
    """Make a submission: statistics, README, submission.json, logs, code, pull request text; then lint it.

    Parameters
    ----------
    what
        Folders of finished runs of one configuration; or one preset, whose seeds are run first where they are not
        there yet.
    seeds
        Seeds of a preset.
    best
        What is to be beaten: bits per byte, or a submission.json with seeds.
    base
        Preset that the README's table of differences starts from.
    script
        The training script; by default the bundle of the configuration, proven first.
    records
        Where submissions stand.
    overwrite
        Replace a submission of the same name and date.
    json
        Print as JSON.
    """
    from paramgolf.bundle.lint import lint
    from paramgolf.bundle.submission import Submission
    from paramgolf.bundle.submission_folder import make_submission
    from paramgolf.contest import Contest
    from paramgolf.lab.launch import asked_run

    folders = chosen_folders(what, seeds, options, quiet=json)
    found = tuple(finished_seed(folder) for folder in folders)
    refuse_silence(folders, found[0].run, options.runs, described.leave_out)
    submission = Submission(
        name=described.name,
        author=described.author,
        github_id=described.github_id,
        blurb=described.blurb,
        date=described.date or datetime.date.today().isoformat(),
        track=described.track,
        seeds=found,
        code=submitted_code(found[0].run, script),
        base=asked_run(base),
        rival=rival_scores(best),
        left_out=described.leave_out,
        tokenizer=run_tokenizer(folders[0]),
    )
    made = make_submission(submission, records, overwrite=overwrite)
    findings = lint(made, Contest())
    errors = sum(finding.severity == "error" for finding in findings)
    if json:
        print_json({"folder": str(made), "lint": [finding._asdict() for finding in findings]})
        return int(errors > 0)
    print_standing(submission)
    for finding in findings:
        print_text(f"{finding.severity}: {finding.file}: {finding.cause} ({finding.evidence})")
    print_text(f"made: {made}\nnext: read {made.name}.pull_request.md beside it, then paramgolf verify {made}")
    return int(errors > 0)


def print_standing(submission: "Submission") -> None:
    """The mean over seeds, and what each reading of the rules makes of it."""
    from paramgolf.bundle.significance import spread
    from paramgolf.bundle.submission_readme import margin_readings, reading_row

    found = spread([result.val_bpb for result in submission.results])
    deviation = "" if found.deviation is None else f", deviation {found.deviation:.5f}"
    print_text(f"{found.number} seeds: {found.mean:.5f} bpb{deviation}")
    if submission.rival is not None:
        header = (f"against {submission.rival.name}", "margin", "test", "t", "df", "p", "wanted", "")
        print_rows(header, [reading_row(reading) for reading in margin_readings(submission)])


def chosen_folders(what: tuple[str, ...], seeds: str, options: RunOptions, *, quiet: bool) -> list[Path]:
    """The folders of the runs that are asked for; a preset's seeds are run first where they are missing."""
    if not what:
        raise UsageError("neither runs nor a preset were named", fix="paramgolf submit runs/FOLDER runs/FOLDER")
    if len(what) > 1 or Path(what[0]).is_dir():
        return [Path(word) for word in what]
    from paramgolf.cli.running import chosen_seeds

    return [run_once(what[0], seed, options, quiet=quiet) for seed in chosen_seeds(seeds, options.seed)]


def run_once(preset: str, seed: int | None, options: RunOptions, *, quiet: bool) -> Path:
    """The folder of a preset's finished run with `seed`, run now or taken up if there is none."""
    from dataclasses import replace

    from paramgolf.cli.running import carried_out, raise_first
    from paramgolf.stages import execute

    launch = replace(options.launch(preset, seed=seed), resume="auto")
    digest = preset_digest(preset, options)
    known = [path for path, number in finished_runs(options.runs, digest) if number == seed]
    if known:
        return known[-1]
    raise_first([carried_out(execute, launch, options.device, quiet=quiet)])
    return next(path for path, number in reversed(finished_runs(options.runs, digest)) if number == seed)


def preset_digest(preset: str, options: RunOptions) -> str:
    """The digest of a preset with the settings asked for."""
    from paramgolf.lab.launch import asked_run

    return asked_run(preset, options.settings).digest


def finished_runs(root: Path, digest: str) -> list[tuple[Path, int]]:
    """Folder and seed of every finished run of a configuration below `root`, oldest first."""
    from paramgolf.lab.results import past_runs

    return [(past.folder, past.result.seed) for past in past_runs(root) if past.result and past.result.digest == digest]


def finished_seed(folder: Path) -> "SubmissionSeed":
    """The run in `folder` with its outcome and log. Raises `UsageError` when it is not finished."""
    from paramgolf.bundle.submission import SubmissionSeed
    from paramgolf.folder import opened
    from paramgolf.lab.launch import run_of
    from paramgolf.lab.results import read_result

    run = opened(folder)
    if not run.result.exists() or not run.log.exists():
        raise UsageError(f"the run in {folder} is not finished", fix=f"paramgolf run --resume {folder}")
    text = run.log.read_text(encoding="utf-8", errors="replace")
    return SubmissionSeed(run=run_of(run), result=read_result(run.result), log=text)


def refuse_silence(folders: list[Path], run: "Run", root: Path, reason: str) -> None:
    """Raise `UsageError` when finished runs of the configuration were not given and nobody says why (R7)."""
    from paramgolf.bundle.submission_folder import left_over

    others = left_over(folders, [path for path, _ in finished_runs(root, run.digest)])
    if others and not reason:
        raise UsageError(
            f"{len(others)} finished runs of this configuration were not given; a mean is over all of them",
            evidence=", ".join(map(str, others)),
            fix='give them too, or --leave-out "why they do not count", which the README then says',
        )


def rival_scores(best: str | None) -> "RivalScores | None":
    """The scores to beat: a number, or the seeds in a `submission.json`."""
    from paramgolf.bundle.claim import read_claim
    from paramgolf.bundle.submission import RivalScores

    if best is None:
        return None
    path = Path(best)
    if path.is_file():
        claim = read_claim(path.read_bytes())
        scores = tuple(seed.val_bpb for seed in claim.seeds if seed.val_bpb is not None)
        mean = () if claim.val_bpb is None else (claim.val_bpb,)
        if not scores and not mean:
            raise DataError(f"{path} holds no score", evidence=f"missing: {', '.join(claim.missing)}")
        return RivalScores(name=claim.name or path.stem, scores=scores if len(scores) > 1 else mean or scores)
    try:
        return RivalScores(name="the best score", scores=(float(best),))
    except ValueError:
        raise UsageError(f"--best {best!r} is neither a number nor a file", fix="--best 1.0611") from None


def submitted_code(run: "Run", script: Path | None) -> "SubmissionCode":
    """The script in a file, or the bundle of the configuration, proven to do what the package does.

    Raises `UsageError` for a file that is not there, `GolfError` for a bundle that gives other numbers.
    """
    from tempfile import TemporaryDirectory

    from paramgolf.bundle.amalgamate import amalgamate
    from paramgolf.bundle.prove import prove
    from paramgolf.bundle.shrink import packed
    from paramgolf.bundle.submission import SubmissionCode

    if script is not None:
        if not script.is_file():
            raise UsageError(f"there is no script {script}", fix="leave --script out, for the bundle")
        return SubmissionCode(script=script.read_bytes())
    bundle = amalgamate(run)
    with TemporaryDirectory() as folder:
        for proof in prove([run], Path(folder)):
            if not proof.equal:
                raise GolfError(
                    "the bundle does not give the numbers of the package, so it is not submitted",
                    evidence=f"package {proof.package}, bundle {proof.bundle}"[:600],
                    fix="report it with the configuration, or give a script of your own: --script",
                )
    readable = bundle.readable if is_python(bundle.readable) else bundle.lean
    return SubmissionCode(script=packed(bundle.lean).content, readable=readable)


def is_python(text: str) -> bool:
    """Whether a text can be parsed: what people read should be what ran."""
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True


def run_tokenizer(folder: Path) -> Path | None:
    """The vocabulary that a run was made with, if it is a file that is still there."""
    from paramgolf.folder import opened

    run = opened(folder)
    path = Path(run.read_json(run.data)["tokenizer"]) if run.data.exists() else Path()
    return path if path.suffix == ".model" and path.is_file() else None
