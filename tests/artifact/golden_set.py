"""The fixed tensors whose container bytes are kept. `python tests/artifact/golden_set.py` writes the files anew."""

from pathlib import Path

import torch

from paramgolf.artifact.arrangement import Expected
from paramgolf.artifact.container import pack
from paramgolf.parts import Role
from paramgolf.stored import Grid, Plain, Stored
from paramgolf.techniques.artifact import BrotliCoder, LzmaCoder, MixingCoder, ZlibCoder, ZstdCoder

GOLDEN = Path(__file__).parent.parent / "golden"
DIGEST = "0123456789ab"
CODERS = {"raw": None, "zlib": ZlibCoder(), "lzma": LzmaCoder(), "brotli": BrotliCoder(), "zstd": ZstdCoder()}
CODERS["mixing"] = MixingCoder()


def counting(*shape: int) -> torch.Tensor:
    """Whole numbers from -8 to 8, over and over."""
    return (torch.arange(torch.Size(shape).numel()) % 17 - 8).reshape(shape)


def golden_stored() -> tuple[dict[str, Stored], dict[str, Expected]]:
    """Tensors of every kind of term, alone and summed, with what a model would expect."""
    codes, wide = counting(4, 24).to(torch.int8), (counting(3, 5) * 1000).to(torch.int16)
    scale = torch.tensor([0.5, 0.25, 2.0, 1.0]).half()
    grid = Grid(codes=codes, scale=scale, bits=6)
    stored = {
        "mix": Stored((3,), (Plain(values=torch.tensor([[1.5, -0.1, 3e30]])),)),
        "up": Stored((4, 24), (grid,)),
        "query": Stored((3, 5), (Grid(codes=wide, scale=scale[:3], bits=14),)),
        "embed": Stored((4, 24), (grid, Plain(values=(counting(4, 24) / 64).half()))),
        "empty": Stored((0, 7), (Plain(values=torch.zeros(0, 7).half()),)),
        "down": Stored((2, 2, 24), (grid,)),
        "zeros": Stored((9,), ()),
        "lambda": Stored((), (Plain(values=torch.tensor([[0.25]])),)),
    }
    roles = (Role.SCALE, Role.MLP, Role.ATTENTION, Role.EMBED, Role.GATE, Role.MLP, Role.GATE, Role.SCALE)
    expected = {name: Expected(weight.shape, role) for (name, weight), role in zip(stored.items(), roles, strict=True)}
    return stored, expected


def golden_file(name: str) -> Path:
    """Where the golden artifact of a coder is kept, in hexadecimal lines."""
    return GOLDEN / f"container_v1_{name}.hex"


if __name__ == "__main__":
    tensors, model = golden_stored()
    for name, coder in CODERS.items():
        golden_file(name).write_text(pack(tensors, model, coder=coder, digest=DIGEST).hex("\n", 32) + "\n")
