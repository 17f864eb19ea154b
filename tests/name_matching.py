"""Finds code that decides by a parameter's name."""

import ast
import re

NAMED = {"named_parameters", "named_modules", "named_buffers", "named_children", "declared"}
PARTS_OF_NAMES = {"startswith", "endswith", "find", "rfind", "index", "count", "__contains__"}
NAME_MATCHERS = {"match", "search", "fullmatch", "findall", "fnmatch", "fnmatchcase"}


class NameMatching(ast.NodeVisitor):
    """Finds decisions on a parameter's name inside one function.

    Names are what iteration over named parameters (or a table of tensors by name) yields, a `name`
    argument beside a tensor, and what is cut from those; a decision compares one with a constant text.
    A prefix that is a variable is no decision: it takes a flat table apart.
    """

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.records: set[str] = set()
        self.found: list[ast.AST] = []

    def bind(self, target: ast.expr, iterated: ast.expr) -> None:
        text = ast.unparse(iterated)
        called = {ast.unparse(n.func).split(".")[-1] for n in ast.walk(iterated) if isinstance(n, ast.Call)}
        named = bool(called & NAMED) or "state_dict()" in text or text.endswith(".specs")
        if isinstance(target, ast.Tuple) and isinstance(target.elts[0], ast.Tuple):
            target = target.elts[0]
        elif isinstance(target, ast.Tuple) and "enumerate" in called and isinstance(target.elts[-1], ast.Tuple):
            target = target.elts[-1]
        first = target.elts[0] if isinstance(target, ast.Tuple) else target
        if not isinstance(first, ast.Name):
            return
        if named and "declared" in called and first is target:
            self.records.add(first.id)
        elif named or (first.id == "name" and "items" in called):
            self.names.add(first.id)

    def is_name(self, node: ast.AST) -> bool:
        if isinstance(node, ast.Name):
            return node.id in self.names
        if isinstance(node, ast.Attribute):
            return node.attr == "name" and isinstance(node.value, ast.Name) and node.value.id in self.records
        if isinstance(node, ast.Subscript):
            return self.is_name(node.value)
        return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and self.is_name(node.func.value)

    def visit_For(self, node: ast.For) -> None:
        self.bind(node.target, node.iter)
        self.generic_visit(node)

    def visit_scope(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> None:
        for part in node.generators:
            self.bind(part.target, part.iter)
        self.generic_visit(node)

    visit_ListComp = visit_SetComp = visit_GeneratorExp = visit_DictComp = visit_scope

    def visit_arguments(self, node: ast.arguments) -> None:
        arguments = [*node.posonlyargs, *node.args, *node.kwonlyargs]
        tensors = [a for a in arguments if a.annotation and re.search(r"Tensor|Parameter", ast.unparse(a.annotation))]
        if tensors and any(argument.arg == "name" for argument in arguments):
            self.names.add("name")

    def visit_Assign(self, node: ast.Assign) -> None:
        if self.is_name(node.value):
            self.names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        sides = [node.left, *node.comparators]
        if any(self.is_name(side) for side in sides) and any(holds_text(side) for side in sides):
            self.found.append(node)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        called = ast.unparse(node.func).split(".")[-1]
        owner = node.func.value if isinstance(node.func, ast.Attribute) else None
        fixed = any(holds_text(argument) or ast.unparse(argument).isupper() for argument in node.args)
        if owner is not None and self.is_name(owner) and called in PARTS_OF_NAMES and fixed:
            self.found.append(node)
        if called in NAME_MATCHERS and any(self.is_name(argument) for argument in node.args):
            self.found.append(node)
        self.generic_visit(node)

    def visit_Match(self, node: ast.Match) -> None:
        if self.is_name(node.subject):
            self.found.append(node)
        self.generic_visit(node)


def holds_text(node: ast.AST) -> bool:
    """Whether an expression is a text constant or a display of some."""
    elements = node.elts if isinstance(node, ast.Tuple | ast.List | ast.Set) else [node]
    return any(isinstance(element, ast.Constant) and isinstance(element.value, str) for element in elements)
