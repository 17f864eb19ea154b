"""Parameters that nothing reads go with their arguments, unless somebody else may call."""

import ast
import textwrap

import pytest

from paramgolf.bundle.units import Definition
from paramgolf.bundle.unused import without_unused

MODULE = "paramgolf.batch"


def left(source: str) -> str:
    """The program `source` without what it does not use; its one class stands in the place of `Batch`."""
    nodes = ast.parse(textwrap.dedent(source)).body
    program = [Definition(getattr(node, "name", ""), MODULE, 1, node) for node in nodes]
    return "\n".join(ast.unparse(item.node) for item in without_unused(program))


def test_a_parameter_goes_with_what_it_was_given():
    before = """
    def callee(a, b, c=1, *, d, e=2):
        return a + d
    def caller(x):
        return callee(x, x.y, 3, d=4, e=5) + callee(x, 2, d=1)
    """
    after = left(before)
    assert "def callee(a, *, d):" in after
    assert "return callee(x, d=4) + callee(x, d=1)" in after


def test_what_then_is_unused_goes_too():
    after = left("def inner(a):\n    return 1\ndef outer(b):\n    return inner(b)\ndef caller():\n    return outer(2)")
    assert [ast.unparse(node) for node in ast.parse(after).body] == [
        "def inner():\n    return 1",
        "def outer():\n    return inner()",
        "def caller():\n    return outer()",
    ]


@pytest.mark.parametrize(
    "kept",
    [
        "def callee(a):\n    return 1\ndef caller(x):\n    return callee(x.pop())",
        "def callee(a):\n    return 1\ndef caller(x):\n    callee(x)\n    return map(callee, x)",
        "def callee(a):\n    return 1\ndef caller(x):\n    return callee(*x)",
        "def callee(a):\n    return 1\ndef caller(x, callee):\n    return callee(x)",
        "@other\ndef callee(a):\n    return 1\ndef caller(x):\n    return callee(x)",
        "def callee(a):\n    return locals()\ndef caller(x):\n    return callee(x)",
        "class Batch:\n    def segments(self, a):\n        return 1\n    def other(self, x):\n        x.segments(*x)",
        "class Batch:\n    segments: object\nclass Other:\n    def segments(self, a):\n        return 1",
        "class Batch:\n\n    def items(self, a):\n        return 1\ndef caller(x):\n    return x.items(2)",
    ],
)
def test_what_somebody_else_may_call_or_would_miss_stays(kept: str):
    assert "(a)" in left(kept) or "(self, a)" in left(kept)


def test_an_annotation_is_no_use():
    before = "def callee(a):\n    return 1\ndef caller(x: callee) -> callee:\n    y: callee = cast(callee, callee(x))"
    assert "def callee():" in left(before)


def test_methods_lose_it_where_all_of_their_name_do():
    both = """
    class Batch:
        def __init__(self, a, b):
            self.a = a
        def segments(self, layer, x):
            return x
    def caller(y):
        return Batch(1, 2).segments(3, y)
    """
    after = left(both)
    assert "def __init__(self, a):" in after
    assert "def segments(self, x):" in after
    assert "return Batch(1).segments(y)" in after


FUNCTION = """
class Applied(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, unread, weight):
        return x @ weight
    @staticmethod
    def backward(ctx, *given):
        return given[0], {second}, given[0] if ctx.needs_input_grad[{asked}] else None
def caller(x, y):
    return Applied.apply(x, 1.0, y)
"""


def test_a_function_of_autograd_loses_an_argument_with_its_gradient():
    after = left(FUNCTION.format(second="None", asked=2))
    assert "def forward(ctx, x, weight):" in after
    assert "return (given[0], given[0] if ctx.needs_input_grad[1] else None)" in after
    assert "Applied.apply(x, y)" in after


@pytest.mark.parametrize(
    ("second", "asked", "more"),
    [
        ("given[0]", 2, ""),
        ("None", 1, ""),
        ("*given", 2, ""),
        ("None", 2, "def other(x):\n    return map(Applied.apply, x)"),
    ],
)
def test_one_with_a_gradient_or_asked_about_stays(second: str, asked: int, more: str):
    assert "unread" in left(FUNCTION.format(second=second, asked=asked) + more)


OPERATOR = """
@triton.jit
def kernel(x, unread, SIZE: tl.constexpr):
    tl.store(x, SIZE)
@library.custom_op("a::b", mutates_args=())
def operator(x: Tensor, unread: int, told: int) -> Tensor:
    {work}
    return x
@operator.register_fake
def shapes(x: Tensor, unread: int, told: int) -> Tensor:
    return x.new_empty(told)
def caller(x):
    return operator(x, 1, 2)
"""


@pytest.mark.parametrize(
    ("work", "left_of_it", "named"),
    [
        ("kernel[3,](x, 2, 4, num_warps=8)", "kernel[3,](x, 4, num_warps=8)", "operator"),
        ("x = shapes(x, 0, told)", "x = shapes(x, told)", "shapes"),
    ],
    ids=["a kernel", "who tells shapes and is called as well"],
)
def test_kernels_and_operators_lose_what_they_do_not_read(work: str, left_of_it: str, named: str):
    before = OPERATOR.format(work=work)
    after = left(before)
    for line in (
        left_of_it,
        "def operator(x: Tensor, told: int)",
        "def shapes(x: Tensor, told: int)",
        "operator(x, 2)",
    ):
        assert line in after
    assert "def kernel(x, SIZE: tl.constexpr):" in after
    assert "unread: int" in left(f"{before}def other(x):\n    return map({named}, x)")
