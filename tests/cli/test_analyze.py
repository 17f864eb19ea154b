"""The workbench and exports to a target through the command line."""

import json
import re
import shutil
from pathlib import Path

import pytest
from cli.conftest import Golf, assert_helpful, only_run, small

from paramgolf.cli import main
from paramgolf.quant.budget import NEAR_BYTES

BYTES = "--set data.variant=byte260 --set model.vocab=260"


@pytest.fixture(scope="module")
def finished_once(prepared_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run, to be copied."""
    runs = tmp_path_factory.mktemp("analyzed")
    assert main(["run", "demo", *small(), "--data", str(prepared_once), "--runs", str(runs)]) == 0
    return only_run(runs)


@pytest.fixture
def finished_run(finished_once: Path, tmp_path: Path) -> Path:
    """A finished run in the working directory."""
    return Path(shutil.copytree(finished_once, tmp_path / "runs" / finished_once.name))


def test_bytes_by_role_and_by_tensor(golf: Golf, finished_run: Path) -> None:
    said = golf("analyze bytes --json", finished_run)
    told = json.loads(said.out)
    assert told["bytes"] == (finished_run / "artifact.pgolf").stat().st_size
    assert {row["role"] for row in told["rows"]} >= {"mlp", "attention", "embed"}
    table = golf("analyze bytes --by tensor", finished_run / "artifact.pgolf").out
    assert "embedding" in table
    assert f"{told['bytes']:,} bytes" in table
    outside = Path("other.pgolf")
    outside.write_bytes((finished_run / "artifact.pgolf").read_bytes())
    assert_helpful(golf("analyze bytes", outside), 2, "--config")
    assert golf("analyze bytes", outside, "--config", finished_run / "config.toml").code == 0


def test_surveys_go_on_where_they_stopped(golf: Golf, finished_run: Path) -> None:
    first = golf("analyze sensitivity --by role --tokens 500 --json", finished_run)
    assert first.code == 0, first.err
    rows = json.loads(first.out)["rows"]
    assert {row["name"] for row in rows} == {"embed", "attention", "mlp", "scale"}
    points = finished_run / "analysis" / "points.jsonl"
    before = points.read_text()
    again = golf("analyze sensitivity --by role --tokens 500", finished_run)
    assert "0 measured now" in again.err
    assert points.read_text() == before
    for row in rows:
        assert re.search(rf"^{row['name']} .* {row['bytes']:,} ", again.out, re.MULTILINE)


def test_every_survey_prints_a_table_and_json(golf: Golf, finished_run: Path) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("plotly")
    commands = {
        "codecs": ("coder", "ZlibCoder"),
        "clip --tokens 500 --vary quant.mlp.floor=0.004,0.02": ("lost", "mlp.floor=0.02"),
        "residuals --tokens 500 --budget 40000 --role mlp": ("per 100 kB", "export with"),
        "pareto --tokens 500 --coder zlib --coder lzma --out charts": ("lost", "steps x 1.2, lzma"),
    }
    for command, words in commands.items():
        table = golf(f"analyze {command}", finished_run)
        assert table.code == 0, table.err
        for word in words:
            assert word in table.out, table.out
        if "pareto" not in command:
            assert json.loads(golf(f"analyze {command} --json", finished_run).out)
    assert Path("charts/pareto.svg").read_text().startswith("<?xml")
    assert "plotly" in Path("charts/pareto.html").read_text()


def test_a_setting_without_a_say_is_told(golf: Golf, finished_run: Path) -> None:
    idle = golf("analyze clip --tokens 500 --vary quant.calibration.batches_read=1,2", finished_run)
    assert "what was varied has no say" in idle.out
    told = golf("analyze clip --tokens 500 --vary quant.mlp.floor=0.004,0.02", finished_run)
    assert "no say" not in told.out


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("analyze clip FOLDER --set model.layers=3", "only its export"),
        ("analyze clip FOLDER --vary quant.mlp.floor", "path=value,value"),
        ("analyze sensitivity FOLDER --tokens 0", "--tokens"),
        ("analyze codecs nowhere", "not a run's folder"),
        ("analyze bytes nowhere.pgolf", "no artifact"),
        (f"analyze codecs demo --weights nothing.safetensors --data PREPARED {BYTES}", "nothing.safetensors"),
        ("export FOLDER --target-bytes many", "--target-bytes"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    golf: Golf, finished_run: Path, prepared_once: Path, line: str, hint: str
) -> None:
    words = line.replace("FOLDER", str(finished_run)).replace("PREPARED", str(prepared_once))
    said = golf(words)
    assert said.code in (1, 2), said
    assert hint in said.err, said.err
    assert "Traceback" not in said.err


def test_export_to_a_target(golf: Golf, finished_run: Path) -> None:
    own = (finished_run / "artifact.pgolf").stat().st_size
    target = int(own * 0.8)
    said = golf("export", finished_run, "--target-bytes", f"{target:_}")
    assert said.code == 0, said.err
    size = (finished_run / "artifact.pgolf").stat().st_size
    assert 0 <= target - size <= NEAR_BYTES
    assert f"{size:,} bytes, {target - size:,} below" in said.out
    assert golf("score", finished_run).code == 0
    assert json.loads((finished_run / "result.json").read_text())["artifact_bytes"] == size
    assert_helpful(golf("export", finished_run, "--target-bytes", "100"), 3, "do not fit")


@pytest.mark.timeout(480)  # two scripts are bundled, for their bytes
def test_training_can_fill_the_budget(golf: Golf, prepared_once: Path) -> None:
    roomy = small("quant.fill=true contest.artifact_bytes=1000000")
    result = json.loads(golf("run demo --json --runs probe", *roomy, "--data", prepared_once).out)
    budget = result["code_bytes"] + int(0.8 * result["artifact_bytes"])
    filled = golf(
        "run demo --json", *small(f"quant.fill=true contest.artifact_bytes={budget}"), "--data", prepared_once
    )
    assert filled.code == 0, filled.err
    assert 0 <= budget - json.loads(filled.out)["total_bytes"] <= NEAR_BYTES
