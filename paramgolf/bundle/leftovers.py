"""What a finished script has no use for any more: definitions and imports that nothing names, blocks about nothing."""

import ast
from collections import Counter

from paramgolf.bundle.quiet import called, is_quiet, only_keeps
from paramgolf.bundle.trees import Transformer, walk


class Emptied(Transformer):
    """Leaves out contexts that do nothing, and conditions that always hold."""

    def __init__(self, records: frozenset[str]) -> None:
        self.records = records
        """Classes that only keep what they are given."""

    def visit_With(self, node: ast.With) -> ast.AST | list[ast.stmt]:
        self.generic_visit(node)
        items = [item for item in node.items if item.optional_vars or not self.does_nothing(item.context_expr)]
        node.items = items
        return node if items else node.body

    def does_nothing(self, context: ast.expr) -> bool:
        """Whether entering and leaving a context changes nothing."""
        if not isinstance(context, ast.Call) or called(context) != "nullcontext":
            return False
        return all(is_quiet(item, self.records) for item in context.args)

    def visit_comprehension(self, node: ast.comprehension) -> ast.comprehension:
        self.generic_visit(node)
        node.ifs = [item for item in node.ifs if not (isinstance(item, ast.Constant) and item.value)]
        return node

    def visit_Assign(self, node: ast.Assign) -> ast.stmt | None:
        self.generic_visit(node)
        return None if [ast.unparse(target) for target in node.targets] == [ast.unparse(node.value)] else node


def without_leftovers(tree: ast.Module) -> ast.Module:
    """`tree`, changed in place."""
    classes = (node for node in tree.body if isinstance(node, ast.ClassDef))
    Emptied(frozenset(node.name for node in classes if only_keeps(node))).visit(tree)
    while True:
        used = Counter(node.id for node in walk(tree) if isinstance(node, ast.Name) and is_read(node))
        blocks = [tree.body, *(node.body for node in tree.body if isinstance(node, ast.Try))]
        kept = [[item for item in block if is_used(item, used)] for block in blocks]
        if [len(block) for block in kept] == [len(block) for block in blocks]:
            return tree
        for block, rest in zip(blocks, kept, strict=True):
            block[:] = rest or [ast.Pass()]


def is_read(node: ast.Name) -> bool:
    """Whether a name is asked for."""
    return isinstance(node.ctx, ast.Load)


def is_used(item: ast.stmt, used: Counter[str]) -> bool:
    """Whether something names what a statement at the top defines, itself left out. Imports lose what nothing names."""
    if isinstance(item, ast.Import | ast.ImportFrom):
        item.names = [alias for alias in item.names if used[(alias.asname or alias.name).split(".")[0]]]
        return bool(item.names)
    own = Counter(node.id for node in walk(item) if isinstance(node, ast.Name) and is_read(node))
    if isinstance(item, ast.FunctionDef | ast.ClassDef):
        return bool(used[item.name] - own[item.name] or registered(item))
    if isinstance(item, ast.Assign) and all(isinstance(target, ast.Name) for target in item.targets):
        return not is_quiet(item.value) or any(used[ast.unparse(target)] for target in item.targets)
    return True


def registered(item: ast.FunctionDef | ast.ClassDef) -> bool:
    """Whether a decorator may tell others of a definition."""
    marks = {ast.unparse(mark).split("(")[0] for mark in item.decorator_list}
    return not marks <= {"dataclass", "contextmanager", "cache", "torch.no_grad", "triton.jit"}
