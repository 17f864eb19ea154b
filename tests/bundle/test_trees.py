"""Going through trees gives what `ast` gives, contexts and operators apart."""

import ast
from pathlib import Path

import pytest

from paramgolf.bundle import reach, trees
from paramgolf.bundle.slim import copied
from paramgolf.bundle.trees import Transformer, children, walk

PASSED_OVER = (ast.expr_context, ast.operator, ast.boolop, ast.unaryop, ast.cmpop)
SOURCES = [Path(module.__file__ or "").read_text(encoding="utf-8") for module in (reach, trees)]
SOURCES += [
    "def f(a, /, *b, c=1, **d):\n    global g\n    g = {**a, 1: -b}\n    return a < g <= 3 and not d, lambda: (yield)"
]


def counted(nodes: list[ast.AST]) -> list[ast.AST]:
    return [node for node in nodes if not isinstance(node, PASSED_OVER)]


@pytest.mark.parametrize("source", SOURCES)
def test_the_same_nodes_in_the_same_order(source: str):
    tree = ast.parse(source)
    assert list(walk(tree)) == counted(list(ast.walk(tree)))
    for node in ast.walk(tree):
        assert children(node) == counted(list(ast.iter_child_nodes(node)))


@pytest.mark.parametrize("source", SOURCES)
def test_a_copy_is_alike_and_its_own(source: str):
    tree = ast.parse(source)
    again = copied(tree)
    assert ast.dump(again) == ast.dump(tree)
    assert not {id(node) for node in walk(again)} & {id(node) for node in walk(tree)}


class ByThis(Transformer):
    """Drops `pass`, doubles `break`, puts another number for 3, takes the value out of `return`."""

    def visit_Pass(self, node: ast.Pass) -> None:
        return None

    def visit_Break(self, node: ast.Break) -> list[ast.stmt]:
        return [node, ast.Continue()]

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        return ast.Constant(7) if node.value == 3 else node

    def visit_Return(self, node: ast.Return) -> ast.stmt:
        self.generic_visit(node)
        node.value = None
        return node

    def visit_Await(self, node: ast.Await) -> None:
        return None


class ByAst(ast.NodeTransformer):
    visit_Pass, visit_Break, visit_Return = ByThis.visit_Pass, ByThis.visit_Break, ByThis.visit_Return
    visit_Constant, visit_Await = ByThis.visit_Constant, ByThis.visit_Await


def test_a_transformer_does_what_that_of_ast_does():
    source = "while x:\n    pass\n    break\n    f(3, [3, 4], k=3)\nasync def g():\n    a = await x, 3\n    return 3"
    made, wanted = ByThis().visit(ast.parse(source)), ByAst().visit(ast.parse(source))
    assert ast.dump(made) == ast.dump(wanted)
    assert "f(7, [7, 4], k=7)" in ast.unparse(made)


def test_a_class_of_its_own_remembers_its_own_visitors():
    class Below(ByThis):
        def visit_Name(self, node: ast.Name) -> ast.expr:
            return ast.Name("other", node.ctx)

    assert ast.unparse(ByThis().visit(ast.parse("x + 3"))) == "x + 7"
    assert ast.unparse(Below().visit(ast.parse("x + 3"))) == "other + 7"
    assert ast.unparse(ByThis().visit(ast.parse("x + 3"))) == "x + 7"
