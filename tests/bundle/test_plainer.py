"""Several attributes at once, and tuples in tuples, are written down one by one where nothing could notice."""

import ast

import pytest

from paramgolf.bundle.plainer import plainer


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("self.a, ctx.b = x, y.z", "self.a = x\n    ctx.b = y.z"),
        ("self.a, self.b = x, self.a", None),
        ("self.a, self.b = x, f(y)", None),
        ("self.a, self.b = x", None),
        ("self.a, self.c[0] = x, y", None),
        ("return (1, *(2, 3), *[4], *x)", "return (1, 2, 3, 4, *x)"),
        ("f(*(1, 2), x)", "f(1, 2, x)"),
        ("a, *b = x", None),
        ("return [y for y in x]", "return [*x]"),
        ("return [y for y in x if y]", None),
        ("return [x for y in x]", None),
        ("return [y for (y, z) in x]", None),
        ("self.a.b, self.c = x, y", "self.a.b = x\n    self.c = y"),
    ],
)
def test_plainer_words(before: str, after: str | None):
    node = ast.parse(f"def sample(self, ctx, x, y):\n    {before}").body[0]
    wanted = ast.parse(f"def sample(self, ctx, x, y):\n    {after or before}").body[0]
    assert ast.unparse(plainer(node)) == ast.unparse(wanted)
