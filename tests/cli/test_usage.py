"""Help, spelling, exit codes and errors."""

import errno
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli.conftest import Golf
from cyclopts import App

from paramgolf.cli.application import EXAMPLES, application
from paramgolf.cli.entry import told_error


def commands(app: App, path: str = "") -> Iterator[str]:
    """Every command below `app`, by its words."""
    yield path
    for name in app:
        if not name.startswith("-"):
            yield from commands(app[name], f"{path} {name}".strip())


def test_every_command_has_two_examples() -> None:
    assert set(commands(application())) == set(EXAMPLES)
    for path, lines in EXAMPLES.items():
        assert len(lines) == 2
        assert all(line.startswith(f"paramgolf {path}".strip()) or not path for line in lines)


@pytest.mark.parametrize("path", EXAMPLES)
def test_help_begins_with_the_examples(golf: Golf, path: str) -> None:
    said = golf(f"{path} --help")
    assert (said.code, said.err) == (0, "")
    assert said.out.splitlines()[:3] == ["Examples:", *(f"  {line}" for line in EXAMPLES[path])]
    assert "\x1b" not in said.out


@pytest.mark.parametrize("line", [line for lines in EXAMPLES.values() for line in lines])
def test_every_example_parses(line: str) -> None:
    command, bound, _ = application().parse_args(line.split()[1:], exit_on_error=False, print_error=False)
    assert command.__name__.endswith("_command")
    assert bound is not None


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("rum demo", '"run"'),
        ("run demo --sed 3", "--seed"),
        ("run demo --seed three", "paramgolf run --help"),
        ("run demoo", "'demo'"),
        ("run demo --set optim.matrix.lrr=1", "'lr'"),
        ("run demo --set optim.matrix.lr=fast", "optim.matrix.lr"),
        ("run demo --set model.softcap=tanh_softcp", "'tanh_softcap'"),
        ("run demo --set train.steps", "path=value"),
        (
            "run demo --set quant.scale=gptq",
            "quant.scale=gptq needs the inputs that on_step.0",
        ),
        ("run demo --device tpu", "cuda"),
        ("data prepar x", '"prepare"'),
        ("data prepare stdlb", "'stdlib'"),
        ("data prepare stdlib --variant sp12x", "sp1024"),
        ("techniques rop", "'rope'"),
        ("presets basline", "'baseline'"),
        ("diff demo basline", "'baseline'"),
        ("estimate", "PRESET"),
        ("score", "FOLDER"),
        ("score nowhere", "not a run's folder"),
        ("runs show nowhere", "not a run's folder"),
        ("diff demo nowhere.toml", "nowhere.toml"),
    ],
)
def test_what_does_not_exist_is_refused_with_a_hint(golf: Golf, line: str, hint: str) -> None:
    said = golf(line)
    assert said.code == 2, said
    assert said.err.startswith("error: ")
    assert hint in said.err
    assert said.out == ""
    assert not list(Path().iterdir())


def test_traceback_on_request(golf: Golf) -> None:
    assert "Traceback" not in golf("run demoo").err
    assert "Traceback" in golf("run demoo --traceback").err


def test_a_full_disk_is_told_with_the_place(tmp_path: Path) -> None:
    told = told_error(OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "new" / "file")), [])
    assert "no room to write" in told.cause
    assert str(tmp_path) in told.evidence
    assert "bytes free" in told.evidence
    assert told.exit_code == 1


def test_a_place_that_cannot_be_written(golf: Golf, tmp_path: Path) -> None:
    Path("file").write_text("")
    said = golf("data prepare stdlib --variant byte260 --out file/below")
    assert said.code == 1
    assert "file" in said.err
    assert "Traceback" not in said.err


def test_help_comes_fast_and_without_torch() -> None:
    code = (
        "import sys; from paramgolf.cli import main; code = main(['--help']); "
        "sys.exit(code or any(name in sys.modules for name in ('torch', 'numpy', 'sentencepiece')))"
    )
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began < 5, "half a second on an idle machine"


@pytest.mark.parametrize(("own", "policy"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")])
def test_threads_wait_without_spinning_unless_told_otherwise(own: dict[str, str], policy: str) -> None:
    code = "import os; from paramgolf.cli import main; main(['--version']); print(os.environ['OMP_WAIT_POLICY'])"
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"} | own
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split()[-1] == policy


def test_a_reader_that_closes_the_pipe() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "paramgolf", "techniques"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.wait(60) == 0
    assert process.stderr.read() == b""
    process.stderr.close()


@pytest.mark.parametrize("colours", [True, False])
def test_no_color(colours: bool) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    environment |= {"FORCE_COLOR": "1", "TERM": "xterm"} if colours else {"NO_COLOR": "1", "TERM": "xterm"}
    done = subprocess.run(
        [sys.executable, "-m", "paramgolf", "runs", "list"], capture_output=True, env=environment, check=True
    )
    assert b"\x1b[3" not in done.stdout
