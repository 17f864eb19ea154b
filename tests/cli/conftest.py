"""The command line in this process, on texts that prepare in no time."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from tiny import tiny_documents

from paramgolf.cli import main

SMALL = (
    "train.seq_len=32 model.context=32 train.batch_tokens=256 train.device_tokens=256 train.steps=6 train.log_every=2 "
    "data.variant=byte260 model.vocab=260 model.dim=32 model.layers=2 evaluate.protocol.stride=16 "
    "quant.mlp=int8_rows quant.attention=int8_rows quant.embed=int8_rows "
    "quant.mlp.keep=0 quant.attention.keep=0 quant.embed.keep=0 quant.allocate=none artifact.coder=zlib"
)
"""The demo at a size that runs in a second."""


class Said(NamedTuple):
    """What a command came to."""

    code: int
    out: str
    err: str


Golf = Callable[..., Said]


@pytest.fixture
def golf(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Golf:
    """`golf("run demo", "--data", path)` runs a command in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(line: str, *more: object) -> Said:
        capsys.readouterr()
        code = main([*line.split(), *map(str, more)])
        return Said(code, *capsys.readouterr())

    return run


def small(changes: str = "") -> list[str]:
    """The options of `SMALL` and of `changes`."""
    return [word for setting in f"{SMALL} {changes}".split() for word in ("--set", setting)]


@pytest.fixture(scope="session")
def texts_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus with a split of its own, about 13,000 and 1,900 bytes."""
    folder = tmp_path_factory.mktemp("texts")
    for name, number, seed in (("train", 100, 1), ("val", 14, 2)):
        lines = (json.dumps({"text": text}) for text in tiny_documents(number, seed))
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="session")
def prepared_once(texts_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`texts_folder` as bytes, prepared."""
    out = tmp_path_factory.mktemp("prepared") / "data"
    assert main(["data", "prepare", str(texts_folder), "--variant", "byte260", "--out", str(out)]) == 0
    return out


@pytest.fixture
def prepared_folder(prepared_once: Path, tmp_path: Path) -> Path:
    """A copy of `prepared_once` to damage."""
    return Path(shutil.copytree(prepared_once, tmp_path / "prepared"))


def only_run(root: Path = Path("runs")) -> Path:
    """The only run there is."""
    (folder,) = root.iterdir()
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below `folder`."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_helpful(said: Said, code: int, *words: str) -> None:
    """The command failed with `code`, a cause, evidence, a next command and all of `words`, and no traceback."""
    assert said.code == code, said
    assert sum(line.startswith("error: ") for line in said.err.splitlines()) == 1
    for word in ("evidence: ", "next: ", *words):
        assert word in said.err, said.err
    assert "Traceback" not in said.err
