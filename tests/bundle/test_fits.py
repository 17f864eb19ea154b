"""A script whose calls do not fit its functions, or that reads a name nothing binds, is never written."""

import ast
import textwrap

import pytest

from paramgolf.bundle.fits import make_sure_it_fits, misfits, unbound
from paramgolf.errors import GolfError

FUNCTIONS = """
import torch
def plain(a, b, c=3, *, d, e=5):
    return a
def many(a, *more, **others):
    return more
@triton.jit
def kernel(x, size, BLOCK: tl.constexpr):
    pass
class Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, y):
        return x
    @staticmethod
    def backward(ctx, gradient):
        return gradient, None
class Window:
    def __init__(self, length):
        self.length = length
"""


@pytest.mark.parametrize(
    "call",
    [
        "plain(1, 2, d=4)",
        "plain(1, b=2, c=3, d=4, e=5)",
        "plain(*x, d=4)",
        "plain(1, **x)",
        "many(1, 2, 3, word=4)",
        "kernel[2,](1, 2, BLOCK=64, num_warps=4)",
        "Product.apply(1, 2)",
        "Window(3)",
        "x.plain(1)",
    ],
)
def test_what_fits_is_let_through(call: str):
    assert list(misfits(ast.parse(f"{FUNCTIONS}\ndef caller(x):\n    return {call}"))) == []


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ("plain(1, 2, 3, 4, d=4)", "takes 3 arguments by place"),
        ("plain(1, 2)", "lacks d"),
        ("plain(1, d=4)", "lacks b"),
        ("plain(1, 2, d=4, f=6)", "takes no f"),
        ("plain(1, 2, a=1, d=4)", "given twice"),
        ("many()", "lacks a"),
        ("kernel[2,](1, 2, 3, 4)", "takes 3 arguments by place"),
        ("kernel[2,](1, BLOCK=64)", "lacks size"),
        ("Product.apply(1)", "lacks y"),
        ("Product.apply(1, 2, 3)", "takes 2 arguments by place"),
        ("Window()", "lacks length"),
    ],
)
def test_what_does_not_fit_is_found_wherever_it_stands(call: str, reason: str):
    for text in (
        f"{FUNCTIONS}\n{call}",
        f"{FUNCTIONS}\nclass Other:\n    def method(self, x):\n        return [{call}]",
    ):
        (found,) = misfits(ast.parse(text))
        assert found.endswith(f": {reason}")


def test_functions_that_need_a_library_are_looked_at_too():
    text = "try:\n    import triton\n    def kernel(x):\n        return x\nexcept ImportError:\n    pass\nkernel(1, 2)"
    assert len(list(misfits(ast.parse(text)))) == 1


def test_a_function_that_a_decorator_may_call_otherwise_is_let_be():
    assert not list(misfits(ast.parse("@theirs\ndef work(a):\n    return a\nwork(1, 2)")))
    shapes = "@operator.register_fake\ndef shapes(a):\n    return a\nshapes(1, 2)"
    assert list(misfits(ast.parse(shapes))) == ["shapes(1, 2): takes 1 arguments by place"]


def test_a_name_that_means_something_else_inside_is_let_be():
    assert not list(misfits(ast.parse("def work(a):\n    return a\ndef caller(work):\n    return work(1, 2)")))


def test_names_that_nothing_binds():
    text = """
    import math as m
    from os import path
    LIMIT = 3
    class Kept(Base):
        field: int = OTHER
        def method(self, x):
            return x + LIMIT + GONE + len(path.sep) + m.pi
    def outer(y):
        def inner():
            return y + MISSING + [place for place in range(3)][0]
        return inner
    """
    assert unbound(textwrap.dedent(text)) == ["Base", "GONE", "MISSING", "OTHER"]


def test_a_script_that_does_not_fit_is_refused_with_the_place():
    make_sure_it_fits("def f(a):\n    return a\nf(1)")
    with pytest.raises(GolfError) as caught:
        make_sure_it_fits("def f(a):\n    return g\nf(1, 2)")
    assert caught.value.evidence == "f(1, 2): takes 1 arguments by place; g: nothing binds it"
