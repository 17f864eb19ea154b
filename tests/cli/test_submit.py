"""`submit PRESET` runs what is missing, once."""

import json
from pathlib import Path

from conftest import Golf, small

ABOUT = ("--name", "Tiny wide", "--author", "A", "--github-id", "a", "--blurb", "Small.", "--date", "2026-05-01")


def test_seeds_of_a_preset_are_run_and_kept(golf: Golf, prepared_folder: Path) -> None:
    Path("script.py").write_text("print('trains')\n")
    line = f"submit demo --seeds 1,2,3 --data {prepared_folder} --script script.py"
    assert golf("run demo --seed 2 --data", prepared_folder, *small()).code == 0
    kept = {path: (path / "result.json").read_bytes() for path in Path("runs").iterdir()}
    said = golf(line, *ABOUT, *small())
    assert said.code == 0, said
    made = Path("records/track_10min_16mb/2026-05-01_Tiny_wide")
    assert f"made: {made}" in said.out
    assert len(list(Path("runs").iterdir())) == 3
    assert {path: (path / "result.json").read_bytes() for path in kept} == kept
    claim = json.loads((made / "submission.json").read_text())
    assert claim["seeds"] == [1, 2, 3]
    assert golf("lint", made).code == 0
    assert golf(line, *ABOUT, *small()).code == 2  # the folder is there
    assert golf(line, "--overwrite", "--json", *ABOUT, *small()).code == 0
    assert len(list(Path("runs").iterdir())) == 3


def test_an_unfinished_run_is_no_submission(golf: Golf, prepared_folder: Path) -> None:
    assert golf("train demo --data", prepared_folder, *small()).code == 0
    (folder,) = Path("runs").iterdir()
    said = golf("submit", folder, "--script", "script.py", *ABOUT)
    assert said.code == 2
    assert "is not finished" in said.err
