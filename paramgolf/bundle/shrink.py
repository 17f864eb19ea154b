"""A script made small: names shortened, compressed, in two lines that unpack and run it."""

import ast
import base64
import lzma
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

import brotli

from paramgolf.bundle.enumerations import with_numbered_members
from paramgolf.bundle.inline import with_calls_inlined
from paramgolf.bundle.leftovers import without_leftovers
from paramgolf.bundle.mixing import branches, coded_bits, mixed_code, mixed_text, tree_for
from paramgolf.bundle.records import given_by_place
from paramgolf.bundle.rename import library_words, with_short_names
from paramgolf.bundle.slim import slim
from paramgolf.bundle.temporaries import without_temporaries
from paramgolf.bundle.trees import walk
from paramgolf.errors import UsageError

Packing = Literal["mixed", "dense", "base85"]
"""How a script is compressed and stands in its file.

`mixed`: by context mixing, smallest; unpacking takes about 0.4 ms a character. `dense`: by brotli or LZMA, bytes as
characters of latin-1 (19 % more). `base85`: the same in printable ASCII (46 % more).
"""

LZMA_FILTERS = [{"id": lzma.FILTER_LZMA1, "preset": 9 | lzma.PRESET_EXTREME, "lc": 4, "lp": 0, "pb": 0}]
"""Best for text: the bits of a position say nothing, the character before says much."""


class PackedScript(NamedTuple):
    """A script ready to ship."""

    content: bytes
    minified: str
    coder: str


def minified(lean: str) -> str:
    """`lean` with calls and locals put in place, short names and no blanks.

    Raises `UsageError` when python-minifier is not installed.
    """
    tree = without_temporaries(with_numbered_members(given_by_place(ast.parse(lean))))
    known = frozenset(library_words(tree) | whole_words(tree))
    tree = without_leftovers(without_temporaries(with_calls_inlined(tree, known)))
    return small(ast.unparse(with_short_names(ast.parse(ast.unparse(tree)))))


def whole_words(tree: ast.Module) -> set[str]:
    """The strings of a script, by which it may ask for attributes."""
    return {node.value for node in walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def small(source: str) -> str:
    """`source` without blanks. Raises `UsageError`."""
    try:
        import python_minifier
    except ImportError:
        raise UsageError("python-minifier is not installed", fix="pip install python-minifier") from None

    # Operators of torch go by the annotations that are still there.
    return python_minifier.minify(
        source,
        rename_locals=False,
        hoist_literals=False,
        remove_annotations=python_minifier.RemoveAnnotationsOptions(False, False, False, False),
        remove_literal_statements=True,
    )


def packed(lean: str, packing: Packing = "mixed") -> PackedScript:
    """The script `lean` as a file: the smallest that `packing` gives."""
    text = minified(lean).encode("ascii", "backslashreplace").decode()
    if packing == "mixed":
        return PackedScript(mixed_loader(text), text, "mixing")
    choices = [
        ("lzma", lzma.compress(text.encode(), format=lzma.FORMAT_ALONE, filters=LZMA_FILTERS)),
        ("brotli", brotli.compress(text.encode(), quality=11, lgwin=24)),
    ]
    whole = [
        PackedScript(loader(coder, blob, packing, traced="triton" in text), text, coder) for coder, blob in choices
    ]
    return min(whole, key=lambda choice: len(choice.content))


@cache
def mixed_loader(text: str) -> bytes:
    """Two lines of Python that run `text`, which what they unpack first decodes by context mixing."""
    tree = ast.parse(Path(mixed_text.__code__.co_filename).read_text(encoding="utf-8"))
    kept = {mixed_text.__name__, coded_bits.__name__, branches.__name__, "RADIX"}
    needed = [node for node in tree.body if isinstance(node, ast.Import) or kept & {*made_names(node)}]
    lean = "\n".join(ast.unparse(slim(node)) for node in needed)
    letters, run = tree_for(text), run_text("script", "triton" in text)
    program = minified(f"{lean}\nscript = mixed_text({letters!r}, __, {len(text)}, coded_bits(_))\n{run}")
    code = mixed_code(text, letters, program)
    while "'''" in code:  # one in a thousand; another primer gives another code
        program += "\n"
        code = mixed_code(text, letters, program)
    literal, encoding = dense_literal(zlib.compress(program.encode(), 9, wbits=-15))
    lines = f"{encoding}\nimport zlib;_=r'''{code}''';__=zlib.decompress({literal},-15).decode();exec(__)\n"
    return lines.encode("latin-1")


def made_names(node: ast.stmt) -> list[str]:
    """The names that a top-level statement defines."""
    if isinstance(node, ast.FunctionDef):
        return [node.name]
    return (
        [target.id for target in node.targets if isinstance(target, ast.Name)] if isinstance(node, ast.Assign) else []
    )


def run_text(name: str, traced: bool) -> str:
    """Statements that run the text called `name`, with its source where `inspect` finds it if it is to be `traced`."""
    if not traced:
        return f"exec({name})"
    told = f"import linecache\nlinecache.cache['_'] = 9, None, {name}.splitlines(1), '_'\n"
    return f"{told}exec(compile({name}, '_', 'exec'))"


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
