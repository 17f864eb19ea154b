"""What is shipped is what was packed, whatever the bytes, and short names change nothing that others know."""

import ast
import lzma
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paramgolf.bundle.rename import with_short_names
from paramgolf.bundle.shrink import Packing, base85_literal, dense_literal, loader, minified, mixed_loader, packed
from paramgolf.bundle.slim import reads_signature

SCRIPT = """
import json
import sys
from dataclasses import asdict, dataclass
@dataclass
class Result:
    artifact_bytes: 0
@dataclass(frozen=True, kw_only=True)
class Setting:
    learning_rate: 0
    def halved_rate(self):
        return self.learning_rate / 2
def report(setting, *, decimal_places):
    told = {"halved": round(setting.halved_rate(), decimal_places)}
    print(json.dumps(told), asdict(Result(artifact_bytes=3)), getattr(setting, "halved_rate")())
if __name__ == "__main__":
    report(Setting(learning_rate=0.1), decimal_places=3)
"""


@given(st.binary(max_size=300))
def test_every_byte_comes_back(blob: bytes):
    for literal, first in (dense_literal(blob), base85_literal(blob)):
        source = f"{first}\nimport base64; value = {literal}\n".encode("latin-1")
        names: dict[str, object] = {}
        exec(compile(source, "<literal>", "exec"), names)
        assert names["value"] == blob


def test_dense_is_denser():
    blob = lzma.compress(bytes(range(256)) * 7 + Path(ast.__file__).read_bytes())
    assert len(dense_literal(blob)[0].encode("latin-1")) < 1.03 * len(blob)
    assert len(base85_literal(blob)[0]) > 1.24 * len(blob)


@pytest.mark.parametrize("packing", ["mixed", "dense", "base85"])
def test_the_shipped_file_runs_alone(packing: Packing, tmp_path: Path):
    shipped = packed(SCRIPT, packing)
    assert packing == "mixed" or shipped.content.count(b"\n") == 2
    script = tmp_path / "train_gpt.py"
    script.write_bytes(shipped.content)
    ran = subprocess.run([sys.executable, "-I", str(script)], capture_output=True, text=True, check=True)
    plain = subprocess.run([sys.executable, "-I", "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert ran.stdout == plain.stdout


@pytest.mark.parametrize("packing", ["mixed", "dense"])
def test_source_can_be_inspected_where_kernels_need_it(packing: str, tmp_path: Path):
    text = "import inspect\ndef kernel():\n    return 1 # triton\nprint(inspect.getsource(kernel))"
    script = tmp_path / "train_gpt.py"
    dense = loader("lzma", lzma.compress(text.encode()), "dense", traced=True)
    script.write_bytes(mixed_loader(text) if packing == "mixed" else dense)
    ran = subprocess.run([sys.executable, "-I", str(script)], capture_output=True, text=True, check=True)
    assert "return 1" in ran.stdout


def test_own_names_are_short_and_known_ones_stay():
    short = ast.unparse(with_short_names(ast.parse(SCRIPT)))
    assert "decimal_places" not in short
    assert "learning_rate" not in short
    assert "halved_rate" in short, "a string names it"
    assert "artifact_bytes" in short, "files have it"
    assert "asdict" in short
    assert "frozen" in short


def test_a_name_of_a_library_stays():
    source = "import torch\nclass A:\n    def softmax(self): pass\n    def unheard_of(self): pass\n"
    short = ast.unparse(with_short_names(ast.parse(source)))
    assert "softmax" in short
    assert "unheard_of" not in short


def test_attributes_of_modules_that_strings_tell_of_stay():
    """Parameters are called after them."""
    source = "from torch import nn\nclass A(nn.Module):\n    def reset(self): self.my_projection = self.my_bias = 1\n"
    short = ast.unparse(with_short_names(ast.parse(source + "pattern = r'my_bias\\.[0-9]'")))
    assert "my_projection" not in short
    assert short.count("my_bias") == 2


def test_annotations_that_operators_of_torch_read_are_kept():
    head = "import torch\nfrom torch import library\n@library.custom_op('test::once', mutates_args=())\n"
    source = head + "def once(x: torch.Tensor) -> torch.Tensor:\n    return x.clone()\n"
    assert minified(source).count("Tensor") == source.count("Tensor")


def test_a_decorator_that_reads_annotations_is_known():
    """Operators of torch and kernels of Triton; an ordinary decorator needs none."""

    def reads(decorator: str) -> bool:
        (function,) = ast.parse(f"{decorator}\ndef once(x: Tensor) -> Tensor: ...").body
        assert isinstance(function, ast.FunctionDef)
        return reads_signature(function)

    assert reads("@library.custom_op('test::once', mutates_args=())")
    assert reads("@once.register_fake")
    assert reads("@triton.jit")
    assert not reads("@cache")
