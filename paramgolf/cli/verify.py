"""`verify`: the judge, on the command line."""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rich.text import Text

from paramgolf.cli.options import Device, Json
from paramgolf.cli.output import print_json, print_text, stdout_console
from paramgolf.cli.progress import Status, display
from paramgolf.errors import UsageError

if TYPE_CHECKING:
    from paramgolf.data.dataset import Dataset
    from paramgolf.train.distributed import Place
    from paramgolf.verify.judge import Case
    from paramgolf.verify.ruling import Judgement, Ruling, Verdict

STYLES = {"passed": "green", "failed": "bold red", "disputed": "yellow", "skipped": "dim"}


def verify_command(
    target: str,
    /,
    *,
    data: Path | None = None,
    tokenizer: str | None = None,
    device: Device = "auto",
    best: str | None = None,
    only: str | None = None,
    skip: str | None = None,
    probe_tokens: int = 4096,
    cuts: int = 8,
    enumeration_seconds: float = 60.0,
    replay_seconds: float = 3600.0,
    command: str | None = None,
    html: Path | None = None,
    json: Json = False,
) -> int:
    """Judge a run, a submission's folder or a predictor of somebody else by the rules of the contest.

    Ends with 1 when a rule is broken. What is disputed is shown with both readings and breaks nothing.

    Parameters
    ----------
    target
        A run's folder, a submission's folder, or module:Predictor (two methods, see paramgolf/verify/predictor.py).
    data
        Folder of prepared data. A run knows its own; a predictor needs it; a submission's bytes are checked on it.
    tokenizer
        The tokenizer of `data`, byte260 or the path of a .model, where the folder does not tell it.
    device
        Where to run the predictor.
    best
        Scores to beat in bits per byte, as 1.0611 or one for each seed: 1.0599,1.0612,1.0621.
    only
        Checks to make: causality,normalization,update,coverage,isolation,bytes,artifact,times,contamination,
        reproduction,margin.
    skip
        Checks to leave out.
    probe_tokens
        How much of the validation text the predictor is probed on. A learner that learns from larger chunks than
        that does not learn here.
    cuts
        At how many places the text is changed.
    enumeration_seconds
        For trying every token of the vocabulary in one place, where a predictor gives no distributions.
    replay_seconds
        Most that scoring again in an empty folder may take.
    command
        For a submission's folder: what takes the score again in a copy of it, offline, as 'python train_gpt.py …'.
    html
        Write the report as one HTML file.
    json
        Print the report as JSON.
    """
    from paramgolf import __version__
    from paramgolf.train.distributed import placed
    from paramgolf.verify.judge import Effort, judge

    effort = Effort(cuts=cuts, enumeration_seconds=enumeration_seconds, only=words_of(only), skip=words_of(skip))
    with placed(device) as place:
        dataset = None if data is None else opened_data(data, tokenizer)
        case = opened_case(
            target, dataset, place, VerifyOptions(probe_tokens, replay_seconds, command, numbers_of(best))
        )
        with display() as shown:
            judgement = judge(case, effort, told=lambda check: shown.show(Status("judge", check)))
    if html is not None:
        from paramgolf.verify.report import html_report

        html.parent.mkdir(parents=True, exist_ok=True)
        html.write_text(html_report(judgement, __version__), encoding="utf-8")
    if json:
        print_json(judgement.as_json())
    else:
        print_judgement(judgement)
        if html is not None:
            print_text(f"\nreport: {html}")
    return int(judgement.verdict.value == "failed")


class VerifyOptions(NamedTuple):
    """Options that say how a target is opened."""

    probe_tokens: int
    replay_seconds: float
    command: str | None
    best: tuple[float, ...]


def opened_case(target: str, data: "Dataset | None", place: "Place", asked: VerifyOptions) -> "Case":
    """What `target` names, opened."""
    from paramgolf.contest import Contest
    from paramgolf.verify.folder_target import folder_case
    from paramgolf.verify.outside_target import is_predictor_name, outside_case
    from paramgolf.verify.run_target import run_case

    path = Path(target)
    if (path / "config.toml").is_file() and not any(path.glob("submission*.json")):
        return run_case(
            path,
            data=data,
            place=place,
            probe_tokens=asked.probe_tokens,
            replay_seconds=asked.replay_seconds,
            best=asked.best,
        )
    if path.is_dir() or not is_predictor_name(target):
        if not path.exists():
            raise UsageError(
                f"there is no folder {target}",
                fix="paramgolf verify runs/FOLDER, a submission's folder, or module:Predictor --data FOLDER",
            )
        return folder_case(
            path, contest=Contest(), data=data, best=asked.best, command=asked.command, seconds=asked.replay_seconds
        )
    if data is None:
        raise UsageError(
            "a predictor is judged on validation text: name the data", fix=f"verify {target} --data FOLDER"
        )
    return outside_case(target, data, contest=Contest(), probe_tokens=asked.probe_tokens, best=asked.best)


def opened_data(folder: Path, tokenizer: str | None) -> "Dataset":
    """The dataset in `folder`."""
    from paramgolf.data.dataset import open_dataset

    return open_dataset(folder, tokenizer=tokenizer)


def words_of(text: str | None) -> tuple[str, ...]:
    """The words of a list with commas."""
    return tuple(word.strip() for word in (text or "").split(",") if word.strip())


def numbers_of(text: str | None) -> tuple[float, ...]:
    """The numbers of a list with commas. Raises `UsageError` for anything else."""
    try:
        return tuple(float(word) for word in words_of(text))
    except ValueError:
        raise UsageError(
            f"--best {text!r} is no list of numbers", fix="--best 1.0611, or --best 1.0599,1.0612"
        ) from None


def print_judgement(judgement: "Judgement") -> None:
    """The report on a terminal."""
    console = stdout_console()
    console.print(Text.assemble(("judged ", "bold"), judgement.target, f" ({judgement.kind})"), soft_wrap=True)
    for name, value in judgement.facts:
        console.print(Text.assemble((f"  {name}: ", "dim"), value), soft_wrap=True)
    for ruling in judgement.rulings:
        console.print()
        for line in ruling_lines(ruling):
            console.print(line, soft_wrap=True)
    counts = ", ".join(f"{count} {verdict}" for verdict, count in verdict_counts(judgement).items() if count)
    word = judgement.verdict.value
    console.print()
    console.print(Text.assemble((word.upper(), STYLES[word]), f": {counts}; {judgement.seconds:.1f} s"), soft_wrap=True)


def ruling_lines(ruling: "Ruling") -> list[Text]:
    """One ruling: verdict and sentence, evidence, readings, and the rules where one is broken or disputed."""
    from paramgolf.verify.rules import RULES

    lines = [Text.assemble(mark(ruling.verdict), (ruling.check, "bold"), f": {ruling.said}")]
    if ruling.evidence:
        lines.append(Text.assemble(" " * 10, (ruling.evidence, "dim")))
    for reading in ruling.readings:
        lines.append(Text.assemble(" " * 10, mark(reading.verdict), f"{reading.name}: {reading.why}"))
    if ruling.verdict.value in ("failed", "disputed"):
        lines += [Text.assemble(" " * 10, "rule: ", RULES[key].cited()) for key in ruling.rules]
    return lines


def mark(verdict: "Verdict") -> tuple[str, str]:
    """The verdict as a word of ten columns, with its style."""
    return f"{verdict.value:<10}", STYLES[verdict.value]


def verdict_counts(judgement: "Judgement") -> dict[str, int]:
    """How many rulings there are of each kind."""
    return {word: sum(ruling.verdict.value == word for ruling in judgement.rulings) for word in STYLES}
