"""The files of a submission's folder, in memory: nothing is written until all of them are made."""

import ast
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path

from paramgolf.bundle.lint_code import script_imports
from paramgolf.bundle.submission import Submission, require_sound, write_submission
from paramgolf.bundle.submission_json import strict_json, submission_values
from paramgolf.bundle.submission_readme import pull_request_text, readme_text
from paramgolf.config import to_toml

USUAL_MODULES = ("torch", "numpy", "sentencepiece", "safetensors", "brotli", "zstandard")
"""What a script imports that cannot be read because it is compressed."""
READABLE_NAME = "readable_script.txt"
"""Not called like code, which would count, nor like a log."""


def make_submission(submission: Submission, records: Path, *, overwrite: bool = False) -> Path:
    """Check `submission` and write its folder below `records/track_…`, the pull request's text beside it.

    Raises what `require_sound`, `strict_json` and `write_submission` raise; nothing is left half done.
    """
    require_sound(submission)
    files = submission_files(submission)
    target = records / f"track_{submission.track}" / submission.folder_name
    write_submission(files, target, overwrite=overwrite)
    target.with_name(f"{target.name}.pull_request.md").write_text(pull_request_text(submission), encoding="utf-8")
    return target


def submission_files(submission: Submission) -> dict[str, bytes]:
    """Name -> content of every file but the list of hashes. The same submission gives the same bytes."""
    files = {
        "README.md": readme_text(submission).encode(),
        "submission.json": strict_json(submission_values(submission)).encode(),
        "requirements.txt": requirements(submission.code.script, submission.code.readable).encode(),
        "config.toml": to_toml(submission.run).encode(),
        "train_gpt.py": submission.code.script,
    }
    if submission.code.readable:
        files[READABLE_NAME] = submission.code.readable.encode()
    if submission.tokenizer is not None:
        files[submission.tokenizer.name] = submission.tokenizer.read_bytes()
    return files | {f"train_seed{seed.result.seed}.log": seed.log.encode() for seed in submission.seeds}


def requirements(script: bytes, readable: str = "") -> str:
    """The distributions that a script and its readable twin import, at the versions installed here.

    What packs a script is imported by the script alone; the rest is in the twin. Local marks like `+cpu` are left out.
    """
    found = script_imports(ast.parse(script)) | script_imports(ast.parse(readable))
    # A script that unpacks itself imports only what unpacks it.
    names = found if "torch" in found else found | set(USUAL_MODULES)
    known = packages_distributions()
    pinned = {pinned_version(distribution) for name in names for distribution in known.get(name, [])[:1]}
    return "".join(f"{line}\n" for line in sorted(filter(None, pinned)))


def pinned_version(distribution: str) -> str:
    """`name==1.2.3`; empty where it is not installed."""
    try:
        return f"{distribution.lower()}=={version(distribution).partition('+')[0]}"
    except PackageNotFoundError:
        return ""


def left_over(given: Iterable[Path], finished: Iterable[Path]) -> list[Path]:
    """Finished runs of the same configuration that were not given."""
    counted = {path.resolve() for path in given}
    return [path for path in finished if path.resolve() not in counted]
