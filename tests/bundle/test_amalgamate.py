"""A bundle holds what its run needs and no more, and gives the package's numbers to the last bit."""

import ast
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from paramgolf.bundle.amalgamate import amalgamate, own_units
from paramgolf.bundle.prove import Proof, prove
from paramgolf.bundle.reach import Reach
from paramgolf.bundle.reduce import reduced_run
from paramgolf.bundle.shrink import packed
from paramgolf.bundle.size import bundle_size
from paramgolf.bundle.stand_ins import STAND_INS
from paramgolf.bundle.units import home_of, import_order, read_unit
from paramgolf.errors import GolfError
from paramgolf.lab.launch import asked_run
from paramgolf.presets import PRESETS


@pytest.fixture(scope="module")
def script():
    return amalgamate(asked_run("baseline"))


def test_only_what_the_run_names_is_there(script):
    text = script.lean
    for absent in (
        "XSA",
        "SmearV",
        "class Muon2",
        "GPTQ",
        "Brotli",
        "load_checkpoint",
        "safetensors",
        "from paramgolf",
        "huggingface",
        "flex_attention",
        "varlen",
        "collect_hessians",
    ):
        assert absent not in text, absent
    for present in ("class X0Mix", "class Int8Rows", "class Muon", "ZlibCoder", "argparse"):
        assert present in text, present


def test_the_readable_twin_is_the_same_code(script):
    lean, readable = ast.parse(script.lean), ast.parse(script.readable)
    names = [
        [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)]
        for tree in (lean, readable)
    ]
    assert names[0] == names[1]
    assert ast.get_docstring(next(node for node in readable.body if getattr(node, "name", "") == "Muon"))


def test_the_same_run_gives_the_same_bytes(script):
    again = amalgamate(replace(asked_run("baseline"), seed=7))
    lines = [text.lean.replace("seed=1337", "seed=7").splitlines() for text in (script, again)]
    assert lines[0] == lines[1], "but for the seed"
    assert packed(again.lean, "dense") == packed(again.lean, "dense")


def test_every_stand_in_stands_for_something():
    units = own_units()
    defined = {name for unit in units.values() for name in unit.definitions}
    assert defined >= {*STAND_INS, *STAND_INS.values()}


def test_two_owners_of_a_name_are_refused():
    units = {
        "paramgolf.a": read_unit("paramgolf.a", ast.parse("def twice(): pass")),
        "paramgolf.b": read_unit("paramgolf.b", ast.parse("from paramgolf.a import twice as other\ndef twice(): pass")),
        "paramgolf.c": read_unit("paramgolf.c", ast.parse("def entry(): pass")),
    }
    reach = Reach(units, lambda item: item.node, frozenset())
    reach.want("paramgolf.a", "twice")
    reach.want("paramgolf.b", "twice")
    with pytest.raises(GolfError, match=r"twice is defined in paramgolf\.[ab] and in paramgolf\.[ab]"):
        reach.run()


def test_imports_are_followed_to_where_a_name_is_made():
    units = {
        "paramgolf.x": read_unit("paramgolf.x", ast.parse("def made(): pass")),
        "paramgolf.y": read_unit("paramgolf.y", ast.parse("from paramgolf.x import made as made")),
        "paramgolf.z": read_unit("paramgolf.z", ast.parse("def late():\n    from paramgolf.y import made\n    made()")),
    }
    home = home_of(units, "paramgolf.z", "made")
    assert home is not None
    assert home.definition is not None
    assert home.definition.module == "paramgolf.x"
    order = import_order(units)
    assert order["paramgolf.x"] < order["paramgolf.y"]


def test_the_script_itself_starts_in_an_empty_folder(script, tmp_path: Path):
    """What is shipped, at full size, up to its command line: every definition is made without the package."""
    (tmp_path / "train_gpt.py").write_bytes(packed(script.lean).content)
    (tmp_path / "readable.py").write_text(script.readable)
    for name in ("train_gpt.py", "readable.py"):
        ran = subprocess.run(
            [sys.executable, "-I", name, "--help"], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert "--data" in ran.stdout


def test_a_bundle_gives_the_package_s_numbers(tmp_path: Path):
    (proof,) = prove([asked_run("baseline")], tmp_path)
    assert proof.package == proof.bundle
    assert int(str(proof.package["outputs"])) > 500
    assert len(proof.package["losses"]) == 4  # type: ignore[arg-type]


def test_a_proof_can_fail(tmp_path: Path):
    """The judge notices one bit of one activation."""
    numbers: dict[str, object] = {"activations": "00", "losses": ["step:1/4 train_loss:2.0"]}
    assert Proof("x", numbers, dict(numbers)).equal
    assert not Proof("x", numbers, {**numbers, "activations": "01"}).equal
    assert not Proof("x", {}, {}).equal


def test_a_proof_on_a_gpu_allows_for_the_order_of_sums():
    told: dict[str, object] = {
        "steps": 2,
        "params": 9,
        "artifact_bytes": 50_000,
        "activations": "00",
        "val_bpb_raw": 2.5,
        "losses": ["step:1/2 train_loss:5.5551", "step:2/2 train_loss:4.51"],
        "val_bpb": 2.0,
        "val_bpb_export": 2.1,
    }
    near = {"activations": "01", "losses": ["step:1/2 train_loss:5.5551", "step:2/2 train_loss:4.52"], "val_bpb": 2.004}
    assert Proof("x", told, {**told, **near}, "cuda").equal
    assert not Proof("x", told, {**told, **near}, "cpu").equal
    for far in (
        {"losses": ["step:1/2 train_loss:5.5552", "step:2/2 train_loss:4.51"]},
        {"losses": ["step:1/2 train_loss:5.5551", "step:2/2 train_loss:4.55"]},
        {"losses": told["losses"][:1]},  # type: ignore[index]
        {"val_bpb_export": 2.2},
        {"artifact_bytes": 51_000},
        {"params": 8},
    ):
        assert not Proof("x", told, {**told, **far}, "cuda").equal, far


def test_code_stays_small(script):
    run = asked_run("baseline")
    assert bundle_size(run) == len(packed(script.lean).content) <= 16_000
    assert bundle_size(replace(run, seed=run.seed + 1)) == bundle_size(run)


@pytest.mark.nightly
def test_code_of_a_record_stays_small():
    assert bundle_size(asked_run("pr1855")) <= 25_000


@pytest.mark.nightly
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_s_bundle_gives_the_package_s_numbers(name: str, tmp_path: Path):
    (proof,) = prove([asked_run(name)], tmp_path)
    assert proof.package == proof.bundle


@pytest.mark.gpu
@pytest.mark.nightly
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", ["baseline", "pr1855"])
def test_a_bundle_gives_the_package_s_numbers_on_a_gpu(name: str, tmp_path: Path):
    (proof,) = prove([asked_run(name)], tmp_path, "cuda")
    assert proof.equal, proof


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_can_be_made_small(name: str):
    run = asked_run(name)
    small = reduced_run(run)
    assert small.model.layers == run.model.layers
    assert [type(part) for part in small.model.on_heads] == [type(part) for part in run.model.on_heads]
