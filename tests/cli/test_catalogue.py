"""`presets`, `diff`, `techniques`, `runs`, `doctor` and `estimate` as people and programs read them."""

import json
from pathlib import Path

import pytest
from cli.conftest import Golf, only_run, small

from paramgolf.cli.glossary import field_entries
from paramgolf.config import from_toml
from paramgolf.lab.launch import load_techniques
from paramgolf.presets import PRESETS, preset
from paramgolf.registry import TECHNIQUES
from paramgolf.run import Run

load_techniques()


def test_the_baseline_has_its_published_parameters(golf: Golf) -> None:
    said = golf("presets baseline --json")
    assert said.code == 0
    told = json.loads(said.out)
    assert told["params"] == 17_059_912
    assert told["digest"] == preset("baseline").digest
    assert told["config"]["model"]["dim"] == 512


@pytest.mark.parametrize("name", [*PRESETS, "pr1855@h100"])
def test_a_preset_is_shown_as_toml_that_reads_back(golf: Golf, name: str) -> None:
    assert from_toml(Run, golf(f"presets {name}").out) == preset(name)


def test_presets_are_listed(golf: Golf) -> None:
    said = golf("presets")
    for name in PRESETS:
        assert any(line.startswith(name) for line in said.out.splitlines())
    assert [entry["name"] for entry in json.loads(golf("presets --json").out)] == list(PRESETS)


def test_diff_shows_what_changes(golf: Golf) -> None:
    said = golf("diff baseline demo")
    assert any(line.split() == ["model.dim", "512", str(preset("demo").model.dim)] for line in said.out.splitlines())
    changes = {change["path"]: change for change in json.loads(golf("diff baseline demo --json").out)}
    assert changes["data.corpus"] == {"path": "data.corpus", "old": "fineweb10B", "new": "stdlib"}
    assert golf("diff demo demo").out == "no difference\n"
    assert json.loads(golf("diff demo demo --json").out) == []


def test_diff_takes_runs_and_files(golf: Golf, prepared_once: Path) -> None:
    assert golf("train demo --seed 8", *small(), "--data", prepared_once).code == 0
    for word in (only_run(), only_run() / "config.toml"):
        changes = {change["path"]: change["new"] for change in json.loads(golf("diff demo --json", word).out)}
        assert changes["seed"] == 8
        assert changes["model.dim"] == 32


@pytest.mark.parametrize("name", TECHNIQUES)
def test_every_technique_is_shown(golf: Golf, name: str) -> None:
    told = json.loads(golf(f"techniques {name} --json").out)
    assert told["glossary"]
    assert told["source"]
    said = golf(f"techniques {name}")
    assert said.code == 0
    for field in told["fields"]:
        assert field["name"] in said.out


def test_techniques_are_listed_by_slot(golf: Golf) -> None:
    lines = golf("techniques").out.splitlines()
    assert lines.index("model.on_qk") < next(n for n, line in enumerate(lines) if line.startswith("  rope "))
    assert {entry["name"] for entry in json.loads(golf("techniques --json").out)} == set(TECHNIQUES)


def test_fields_come_with_their_docstrings() -> None:
    fields = {field.name: field for field in field_entries(TECHNIQUES["int8_rows"].config)}
    assert fields["keep"].doc.startswith("Tensors of at most")
    assert (fields["keep"].kind, fields["keep"].default) == ("int", 65_536)
    assert "needs_hessian" not in fields


def test_runs_are_listed_and_shown(golf: Golf, prepared_once: Path) -> None:
    assert "no runs" in golf("runs list").out
    done = json.loads(golf("run demo --seed 1 --json", *small(), "--data", prepared_once).out)
    finished = only_run()
    assert golf("train demo --seed 2", *small(), "--data", prepared_once).code == 0
    listed = {entry["folder"]: entry for entry in json.loads(golf("runs list --json").out)}
    assert sorted(entry["state"] for entry in listed.values()) == ["finished", "unfinished"]
    assert listed[str(finished)]["result"] == done
    assert f"{done['val_bpb']:.4f}" in golf("runs list").out
    assert json.loads(golf("runs show --json", finished).out) == done
    shown = golf("runs show", finished).out
    assert f"{done['val_bpb']:.4f}" in shown
    assert "xz -9e" in shown


def test_a_damaged_result_is_told(golf: Golf, prepared_once: Path) -> None:
    assert golf("run demo", *small(), "--data", prepared_once).code == 0
    (only_run() / "result.json").write_text('{"preset": "demo"}')
    assert json.loads(golf("runs list --json").out)[0]["state"] == "damaged"
    assert golf("runs list").code == 0
    said = golf("runs show", only_run())
    assert said.code == 1
    assert "paramgolf score" in said.err
    assert golf("score", only_run()).code == 0


def test_doctor(golf: Golf) -> None:
    said = golf("doctor --json")
    found = {diagnosis["what"]: diagnosis for diagnosis in json.loads(said.out)}
    assert found["torch"]["state"] == "ok"
    assert "sdpa" in found["attention on cpu"]["found"]
    assert said.code == int(any(diagnosis["state"] == "problem" for diagnosis in found.values()))
    assert "torch" in golf("doctor").out


def test_estimate_as_text_and_json(golf: Golf) -> None:
    told = json.loads(golf("estimate demo --json --device cpu", *small()).out)
    assert told["params"] == sum(told["params_by_role"].values())
    assert told["total_bytes"] == told["artifact_bytes"] + told["code_bytes"]
    said = golf("estimate demo --device cpu", *small("contest.artifact_bytes=1000"))
    assert "OVER THE BUDGET" in said.out
    assert f"{told['params']:,}" in said.out
    assert not Path("runs").exists()
