"""A script made small: names shortened, compressed, in two lines that unpack and run it."""

import ast
import base64
import lzma
from collections.abc import Callable
from typing import Literal, NamedTuple

import brotli

from paramgolf.bundle.rename import with_short_names
from paramgolf.errors import UsageError

Packing = Literal["dense", "base85"]
"""How compressed bytes stand in the file: as characters of latin-1 (2 % more), or base85 (25 % more, ASCII)."""

LZMA_FILTERS = [{"id": lzma.FILTER_LZMA1, "preset": 9 | lzma.PRESET_EXTREME, "lc": 4, "lp": 0, "pb": 0}]
"""Best for text: the bits of a position say nothing, the character before says much."""


class PackedScript(NamedTuple):
    """A script ready to ship."""

    content: bytes
    minified: str
    coder: str


def minified(lean: str) -> str:
    """`lean` with short names and without blanks. Raises `UsageError` when python-minifier is not installed."""
    try:
        import python_minifier
    except ImportError:
        raise UsageError("python-minifier is not installed", fix="pip install python-minifier") from None
    short = ast.unparse(with_short_names(ast.parse(lean)))
    # Kernels of Triton may not read hoisted globals, and operators of torch go by the annotations that are still there.
    return python_minifier.minify(
        short,
        rename_globals=True,
        hoist_literals=False,
        remove_annotations=python_minifier.RemoveAnnotationsOptions(False, False, False, False),
        remove_literal_statements=True,
    )


def packed(lean: str, packing: Packing = "dense") -> PackedScript:
    """The smallest of the ways to ship the script `lean`."""
    text = minified(lean)
    choices = [
        ("lzma", lzma.compress(text.encode(), format=lzma.FORMAT_ALONE, filters=LZMA_FILTERS)),
        ("brotli", brotli.compress(text.encode(), quality=11, lgwin=24)),
    ]
    whole = [
        PackedScript(loader(coder, blob, packing, traced="triton" in text), text, coder) for coder, blob in choices
    ]
    return min(whole, key=lambda choice: len(choice.content))


def loader(coder: str, blob: bytes, packing: Packing, *, traced: bool) -> bytes:
    """Two lines of Python that run what `blob` decompresses to.

    `traced`: with its source where `inspect` finds it, which kernels of Triton are compiled from.
    """
    literal, encoding = LITERALS[packing](blob)
    names = f"{coder},base64" if packing == "base85" else coder
    text = f"{coder}.decompress({literal})"
    run = f"exec({text})"
    if traced:
        names += ",linecache as l"
        run = f"s={text}.decode();l.cache['_']=9,None,s.splitlines(1),'_';exec(compile(s,'_','exec'))"
    return f"{encoding}\nimport {names};{run}\n".encode("latin-1")


def dense_literal(blob: bytes) -> tuple[str, str]:
    """An expression for `blob`, each byte a character, and the first line that such a file needs."""
    text = blob.decode("latin-1").replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n").replace("\r", "\\r")
    pieces = text.split("\0")
    # A zero is \0, unless a digit follows and would belong to it.
    joined = pieces[0] + "".join(("\\000" if piece[:1].isdigit() else "\\0") + piece for piece in pieces[1:])
    return f"'{joined}'.encode('l1')", "#coding:l1"


def base85_literal(blob: bytes) -> tuple[str, str]:
    """An expression for `blob` in printable ASCII, and the first line."""
    return f"base64.b85decode('{base64.b85encode(blob).decode()}')", "#"


LITERALS: dict[str, Callable[[bytes], tuple[str, str]]] = {"dense": dense_literal, "base85": base85_literal}
