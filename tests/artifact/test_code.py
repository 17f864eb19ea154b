import io
import subprocess
import sys
import tarfile
from dataclasses import dataclass

import pytest

from paramgolf.artifact.code import code_archive, code_bytes, config_modules, own_package, reachable_modules
from paramgolf.artifact.container import ArtifactConfig
from paramgolf.errors import UsageError
from paramgolf.presets import preset
from paramgolf.techniques.artifact import BrotliCoder


@pytest.fixture
def package(tmp_path):
    """A package of seven modules, of which `toy.run` needs five."""
    files = {
        "__init__.py": "",
        "run.py": "import json\nfrom toy.deep.inner import thing\n\ndef late():\n    from toy import lazy\n",
        "lazy.py": "from typing import TYPE_CHECKING\n",
        "deep/__init__.py": "",
        "deep/inner.py": "thing = 1\n",
        "deep/other.py": "import toy.lazy\n",
        "unused.py": "raise SystemExit\n",
    }
    for name, text in files.items():
        path = tmp_path / "toy" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "toy"


def test_reaches_what_python_would_import(package):
    assert set(reachable_modules(["toy.run"], package)) == {"toy", "toy.run", "toy.deep.inner", "toy.lazy"}
    assert set(reachable_modules(["toy.deep.other"], package)) == {"toy", "toy.deep.other", "toy.lazy"}


def archived(archive):
    """What the archive holds: path -> size."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {member.name: member.size for member in tar.getmembers()}


def test_a_package_on_the_way_to_a_module_is_empty(package):
    """Its imports, as those of a whole catalogue, are not followed, unless a name of its own is asked for."""
    catalogue = "from toy.deep.inner import thing\nfrom toy.deep.other import toy\n"
    (package / "deep/__init__.py").write_text(catalogue)
    within = archived(code_archive("toy.run", package=package))
    assert within["toy/deep/__init__.py"] == 0
    assert within["toy/deep/inner.py"] > 0
    assert "toy/deep/other.py" not in within
    for asks in ("from toy.deep import thing\n", "import toy.deep.inner\n"):
        (package / "run.py").write_text(asks)
        within = archived(code_archive("toy.run", package=package))
        assert within["toy/deep/__init__.py"] == len(catalogue)
        assert "toy/deep/other.py" in within


def test_counts_what_is_added_and_nothing_else(package):
    before = code_archive("toy.run", package=package)
    (package / "unused.py").write_text("x = 1\n" * 100)
    assert code_archive("toy.run", package=package) == before
    assert code_bytes("toy.run", package=package) == len(before)
    assert code_bytes("toy.run", also=["toy.deep.other"], package=package) > len(before)
    (package / "lazy.py").write_text("".join(f"name_{n} = {n * n}\n" for n in range(300)))
    assert code_bytes("toy.run", package=package) > len(before) + 300


def test_is_the_same_whatever_the_files_dates_and_rights(package):
    before = code_archive("toy.run", package=package)
    (package / "run.py").chmod(0o600)
    (package / "run.py").write_bytes((package / "run.py").read_bytes())
    assert code_archive("toy.run", package=package) == before


def test_a_module_that_is_not_there_is_refused(package):
    with pytest.raises(UsageError, match=r"no module toy\.nowhere"):
        code_bytes("toy.nowhere", package=package)
    with pytest.raises(UsageError, match="no module json"):
        code_bytes("json", package=package)


def test_the_archive_runs_alone(tmp_path):
    """Nothing that counts is missing: what was archived imports without the rest of the package."""
    archive = code_archive("paramgolf.artifact.container", also=["paramgolf.artifact.ledger"])
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(tmp_path, filter="data")
    extracted = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.py")}
    assert "paramgolf/artifact/header.py" in extracted
    assert "paramgolf/artifact/code.py" not in extracted
    program = "import paramgolf.artifact.ledger as m, sys; print(m.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path))
    assert own_package().name == "paramgolf"


@pytest.mark.parametrize("name", ["baseline", "ternary"])
def test_the_archive_of_a_run_runs_alone(name, tmp_path):
    """All modules that the run's own would import are in it, and the catalogue's other techniques are not."""
    modules = sorted({"paramgolf.stages", *config_modules(preset(name))})
    archive = code_archive("paramgolf.stages", also=modules)
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(tmp_path, filter="data")
    assert not (tmp_path / "paramgolf/techniques/model/xsa.py").exists()
    assert (tmp_path / "paramgolf/techniques/model/ternary_linear.py").exists() == (name == "ternary")
    program = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)"
    done = subprocess.run(
        [sys.executable, "-c", program, *modules], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()


def test_modules_of_a_config():
    @dataclass(frozen=True)
    class Whole:
        artifact: ArtifactConfig
        several: tuple[object, ...]

    config = Whole(ArtifactConfig(), (BrotliCoder(), 3))
    assert config_modules(config) == {
        __name__,
        "paramgolf.artifact.container",
        "paramgolf.artifact.zlib_coder",
        "paramgolf.techniques.artifact.brotli_coder",
    }
