"""Source without what running it does not need: docstrings, annotations, assertions, registration, our own imports."""

import ast
import symtable
from typing import TypeVar, cast

from paramgolf.bundle.trees import WITH_NODES, FieldsOf, Transformer, walk
from paramgolf.bundle.units import is_our_import

Node = TypeVar("Node", bound=ast.AST)
KINDS = "kinds"
"""Attribute of an `ast.Attribute`: the classes of which its value is an instance, where folding knows them."""
Functions = ast.FunctionDef | ast.AsyncFunctionDef


ALONE = FieldsOf(lambda kind: (*(name for name in kind._fields if name not in WITH_NODES[kind]), "lineno", KINDS))
"""What a copy of a node shares with it; other tools leave attributes of their own on nodes."""


class BodiesFilled(Transformer):
    """Leaves a `pass` where it takes a body's last statement."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if getattr(node, "body", None) == []:
            node.body = [ast.Pass()]  # type: ignore[attr-defined]
        return node


class Unasserted(BodiesFilled):
    """Drops assertions."""

    def visit_Assert(self, node: ast.Assert) -> None:
        return None


class Unregistered(Unasserted):
    """Drops what means something in the package only: registration, our imports, assertions, casts."""

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.stmt:
        node.decorator_list = [decorator for decorator in node.decorator_list if not registers(decorator)]
        self.generic_visit(node)
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """A `cast` is its value; `zip` need not compare lengths that have been compared."""
        self.generic_visit(node)
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name == "cast" and len(node.args) == 2:
            return node.args[1]
        if name == "zip":
            node.keywords = [item for item in node.keywords if item.arg != "strict"]
        return node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.stmt | None:
        return None if is_our_import(node) else node


class Slim(Unregistered):
    """Drops from a definition what is for people and type checkers, too."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.stmt:
        return self.function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.stmt:
        return self.function(node)

    def function(self, node: Functions) -> ast.stmt:
        """Without annotations and docstring."""
        self.generic_visit(node)
        node.body = undocumented(node.body)
        if reads_signature(node):
            return node
        node.returns = None
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
        for argument in arguments:
            if argument is not None:
                argument.annotation = None
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.stmt:
        node.decorator_list = [decorator for decorator in node.decorator_list if not registers(decorator)]
        keeps = keeps_annotations(node)
        body: list[ast.stmt | None] = [
            field(item, keeps=keeps) if isinstance(item, ast.AnnAssign) else self.visit(item) for item in node.body
        ]
        node.body = undocumented([item for item in body if item is not None])
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.stmt | None:
        return unannotated(node)


def copied(node: Node) -> Node:
    """A copy of a piece of source, many times faster than `copy.deepcopy`."""
    kind = type(node)
    new = kind()
    held, known = new.__dict__, node.__dict__
    for name in WITH_NODES[kind]:
        value = known.get(name)
        if isinstance(value, list):
            held[name] = [copied(item) if isinstance(item, ast.AST) else item for item in value]
        elif isinstance(value, ast.AST):
            held[name] = copied(value)
        elif name in known:
            held[name] = value
    for name in ALONE[kind]:
        if name in known:
            held[name] = known[name]
    return new


def with_part(statement: ast.stmt, old: ast.expr, new: ast.expr) -> ast.stmt:
    """`statement`, changed in place, with `new` for `old`."""
    for parent in walk(statement):
        for name, value in ast.iter_fields(parent):
            if value is old:
                setattr(parent, name, new)
            elif isinstance(value, list):
                value[:] = [new if item is old else item for item in value]
    return statement


def slim(node: ast.stmt) -> ast.stmt:
    """`node`, changed in place."""
    result = Slim().visit(node)
    return cast(ast.stmt, result if result is not None else ast.Pass())


def undocumented(body: list[ast.stmt]) -> list[ast.stmt]:
    """Statements without those that are a literal."""
    kept = [item for item in body if not (isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant))]
    return kept or [ast.Pass()]


def unannotated(node: ast.AnnAssign) -> ast.stmt | None:
    """The assignment alone, or nothing."""
    return ast.copy_location(ast.Assign([node.target], node.value), node) if node.value else None


def field(node: ast.AnnAssign, *, keeps: bool) -> ast.stmt | None:
    """A field of a class. Dataclasses, named tuples and protocols go by annotations: 0 is the shortest one."""
    if not keeps or "ClassVar" in ast.unparse(node.annotation):
        return unannotated(node)
    node.annotation = ast.copy_location(ast.Constant(0), node)
    return node


def keeps_annotations(node: ast.ClassDef) -> bool:
    """Whether what annotations a class has changes what it does."""
    marks = [*node.bases, *(d.func if isinstance(d, ast.Call) else d for d in node.decorator_list)]
    return bool(
        {ast.unparse(mark).split(".")[-1].split("[")[0] for mark in marks} & {"NamedTuple", "Protocol", "dataclass"}
    )


def reads_signature(node: Functions) -> bool:
    """Whether a decorator goes by annotations: operators of torch, kernels of Triton."""
    marks = [ast.unparse(decorator) for decorator in node.decorator_list]
    return any(mark.startswith(("triton.", "library.")) or ".register_" in mark for mark in marks)


def registers(decorator: ast.expr) -> bool:
    """Whether a decorator is `@technique(...)`."""
    return isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Name) and decorator.func.id == "technique"


def global_names(node: ast.stmt) -> set[str]:
    """Names that a definition without annotations takes from outside of itself, builtins included."""
    return names_looked_up(symtable.symtable(ast.unparse(node), "<definition>", "exec"))


def names_looked_up(module: symtable.SymbolTable) -> set[str]:
    """Names that a module and the scopes in it look for at its top, builtins included."""
    found: set[str] = set()
    tables = [module]
    while tables:
        table = tables.pop()
        top = table.get_type() == "module"
        for symbol in table.get_symbols():
            if symbol.is_referenced() and (top or symbol.is_global()):
                found.add(symbol.get_name())
        tables += table.get_children()
    return found
