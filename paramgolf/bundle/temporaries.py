"""Locals that say something once: what they are stands where they are read.

A local goes if one statement assigns it and the next one reads it, once, and before it does anything else; or if it is
another local under a second name, and neither is assigned again; or if nothing reads it, and making its value does
nothing. A tuple, or a record, that is taken apart at once is so many assignments.
"""

import ast
from collections import Counter
from collections.abc import Iterator

from paramgolf.bundle.order import LOUD, comes_first, heads_of, is_loud, may_stand, only_names_before
from paramgolf.bundle.quiet import called, is_quiet
from paramgolf.bundle.slim import copied, with_part
from paramgolf.bundle.trees import walk


def without_temporaries(tree: ast.Module) -> ast.Module:
    """`tree`, changed in place."""
    records = dict(named_tuples(tree))
    for node in walk(tree):
        if isinstance(node, ast.FunctionDef) and not is_kernel(node):
            while Temporaries(node, records).over(node.body):
                pass
    return tree


def named_tuples(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Named tuples that only keep what they are given, each with the number of its fields."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and [ast.unparse(base) for base in node.bases] == ["NamedTuple"]:
            yield node.name, sum(isinstance(item, ast.AnnAssign) for item in node.body)


def is_kernel(node: ast.FunctionDef) -> bool:
    """Whether a function is compiled from its source by another language's rules."""
    return any("jit" in ast.unparse(decorator) for decorator in node.decorator_list)


class Temporaries:
    """Looks at the blocks of one function."""

    def __init__(self, function: ast.FunctionDef, records: dict[str, int]) -> None:
        self.function = function
        self.records = records
        names = [node for node in walk(function) if isinstance(node, ast.Name)]
        self.reads = Counter(node.id for node in names if isinstance(node.ctx, ast.Load))
        self.writes = Counter(node.id for node in names if not isinstance(node.ctx, ast.Load))
        self.kept = {name for node in walk(function) for name in names_kept(node)}
        """Parameters, and names that another scope shares."""

    def over(self, body: list[ast.stmt]) -> bool:
        """One block and those inside it, up to the first change; whether there was one."""
        for place, statement in enumerate(body):
            if parts := self.parted(statement):
                body[place : place + 1] = parts
                return True
            if self.goes(body, place):
                del body[place]
                if not body:
                    body.append(ast.Pass())
                return True
            for name in ("body", "orelse", "finalbody"):
                block = getattr(statement, name, None)
                if isinstance(block, list) and not isinstance(statement, ast.FunctionDef) and self.over(block):
                    return True
        return False

    def goes(self, body: list[ast.stmt], place: int) -> bool:
        """Whether the statement at `place` has been made needless."""
        statement = body[place]
        if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
            return False
        target, value = statement.targets[0], statement.value
        if not isinstance(target, ast.Name) or target.id in self.kept or self.writes[target.id] != 1:
            return False
        if isinstance(value, ast.Name) and value.id == target.id:
            return True
        if not self.reads[target.id] and self.is_silent(value):
            return True
        if isinstance(value, ast.Name) and self.is_settled(value.id):
            return self.renamed(target.id, value.id)
        if self.reads[target.id] != 1 or place + 1 == len(body):
            return False
        return self.moved(target.id, value, body[place + 1])

    def is_silent(self, value: ast.expr) -> bool:
        """Whether making `value` does nothing, as far as that can be seen."""
        loud = [node for node in walk(value) if isinstance(node, LOUD)]
        return is_quiet(value) or all(isinstance(node, ast.Call) and self.is_record(node) for node in loud)

    def is_record(self, node: ast.expr) -> bool:
        """Whether an expression makes a named tuple from values that are given one by one."""
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id not in self.records:
            return False
        return not node.keywords and not any(isinstance(item, ast.Starred) for item in node.args)

    def parted(self, statement: ast.stmt) -> list[ast.stmt]:
        """`a, b = x, y` as two statements, if that is the same; nothing where it is not, or has been done."""
        if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
            return []
        target, value = statement.targets[0], statement.value
        made: list[ast.expr] = []
        if isinstance(value, ast.Tuple):
            made = value.elts
        elif isinstance(value, ast.Call) and self.is_record(value) and self.records[called(value)] == len(value.args):
            made = value.args
        if not isinstance(target, ast.Tuple) or not made or len(target.elts) != len(made):
            return []
        names = [item.id for item in target.elts if isinstance(item, ast.Name)]
        if len(names) < len(made) or any(isinstance(item, ast.Starred) for item in made):
            return []
        for place, item in enumerate(made):
            if any(isinstance(node, ast.Name) and node.id in names[:place] for node in walk(item)):
                return []
        pairs = zip(target.elts, made, strict=True)
        return [ast.Assign([left], right, lineno=0) for left, right in pairs]

    def is_settled(self, name: str) -> bool:
        """Whether a name is bound once in the function, and so the same wherever it is read."""
        if name in parameters_of(self.function):
            return self.writes[name] == 0 and name not in shared_names(self.function)
        return self.writes[name] == 1 and name not in self.kept and not in_a_loop(self.function, name)

    def renamed(self, old: str, new: str) -> bool:
        """Read `new` for `old` everywhere."""
        for node in walk(self.function):
            if isinstance(node, ast.Name) and node.id == old:
                node.id = new
        return True

    def moved(self, name: str, value: ast.expr, following: ast.stmt) -> bool:
        """Put `value` where the next statement reads `name`, if nothing is done in between."""
        for head in heads_of(following):
            for node in walk(head):
                if isinstance(node, ast.Name) and node.id == name and comes_first(head, node):
                    if (is_loud(value) and not only_names_before(head, node)) or not may_stand(value, head, node):
                        return False
                    with_part(following, node, copied(value))
                    return True
        return False


def names_kept(node: ast.AST) -> list[str]:
    """Names that are no plain locals: parameters, names of functions, those declared of another scope or imported."""
    if isinstance(node, ast.arg):
        return [node.arg]
    if isinstance(node, ast.Global | ast.Nonlocal):
        return node.names
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [(alias.asname or alias.name).split(".")[0] for alias in node.names]
    if isinstance(node, ast.FunctionDef | ast.ExceptHandler):
        return [node.name] if node.name else []
    return []


def parameters_of(function: ast.FunctionDef) -> set[str]:
    """The names of a function's own parameters."""
    arguments = function.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    return {item.arg for item in every if item is not None}


def shared_names(function: ast.FunctionDef) -> set[str]:
    """What functions inside `function` bind or share under the same names."""
    inner = [node for node in walk(function) if isinstance(node, ast.FunctionDef | ast.Lambda) and node is not function]
    return {name for node in inner for part in walk(node) for name in names_kept(part)}


def in_a_loop(function: ast.FunctionDef, name: str) -> bool:
    """Whether a loop may bind `name` again."""
    loops = [node for node in walk(function) if isinstance(node, ast.For | ast.While | ast.comprehension)]
    return any(
        isinstance(node, ast.Name) and node.id == name and not isinstance(node.ctx, ast.Load)
        for loop in loops
        for node in walk(loop)
    )
