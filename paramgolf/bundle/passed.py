"""What is known of the parameters of functions and methods and of the fields of records, from every call of them."""

import ast
from collections.abc import Iterator

from paramgolf.bundle.applied import operators_described
from paramgolf.bundle.gather import APPLIED, LAUNCHED, METHOD, Gathered, joined_facts, literal_fact
from paramgolf.bundle.known import Fact, live
from paramgolf.bundle.reach import Reached, mentioned_strings
from paramgolf.bundle.records import field_names
from paramgolf.bundle.slim import keeps_annotations
from paramgolf.bundle.trees import walk
from paramgolf.bundle.units import OURS, Definition

PLAIN_DECORATORS = {"cache", "contextmanager", "torch.no_grad()", "torch.compiler.assume_constant_result"}
"""Decorators that pass arguments on."""
OPERATOR = "library.custom_op("
"""Begins the decorator of an operator of torch, which passes arguments on as well."""
BOUND = {"staticmethod": False, "classmethod": True}
"""Decorators of methods, and whether the first argument is not one that callers give."""


def known_parameters(program: Reached, gathered: Gathered) -> dict[tuple[str, str], dict[str, Fact]]:
    """What is known of the parameters of each function, constructor (by its class) and method (`Class.method`)."""
    found = {}
    dynamic = {name for item in program.definitions for name in mentioned_strings(item.node)}
    for item in program.definitions:
        if isinstance(item.node, ast.FunctionDef):
            for operator in operators_described(item.node):
                found[item.module, item.name] = described_parameters(item, item.node, operator, gathered)
        if isinstance(item.node, ast.FunctionDef) and passes_arguments(item.node):
            key = (item.module, item.name)
            found[key] = gathered.parameters(key, item.node.args, method=False)
        if isinstance(item.node, ast.FunctionDef) and "triton.jit" in decorators(item.node):
            found[item.module, item.name] = constants_of_kernel(item, item.node, gathered)
        for method in functions_applied(item, gathered):
            key = (item.module, f"{item.name}{APPLIED}")
            found[key] = gathered.parameters(key, method.args, method=True)
        for method in methods_called_by_us(item) if isinstance(item.node, ast.ClassDef) else ():
            key = (item.module, item.name)
            if method.name == "__init__":
                found[key] = gathered.parameters(key, method.args, method=True)
            elif method.name not in dynamic:
                bound = next((BOUND[name] for name in decorators(method) if name in BOUND), True)
                facts = gathered.parameters((METHOD, method.name), method.args, method=bound)
                found[item.module, f"{item.name}.{method.name}"] = facts
    return found


def described_parameters(item: Definition, node: ast.FunctionDef, operator: str, gathered: Gathered) -> dict[str, Fact]:
    """What is known of the parameters of a function that tells the shapes of `operator`: it gets what that gets."""
    facts = gathered.parameters((item.module, operator), node.args, method=False)
    own = (item.module, item.name)
    if own not in gathered.calls and own not in gathered.escaped:
        return facts
    called = gathered.parameters(own, node.args, method=False)
    return {name: joined_facts((fact, called.get(name))) for name, fact in facts.items()}


def constants_of_kernel(item: Definition, node: ast.FunctionDef, gathered: Gathered) -> dict[str, Fact]:
    """What is known of the parameters that a kernel is compiled for, where all that calls it launches it."""
    arguments = (*node.args.args, *node.args.kwonlyargs)
    compiled = {each.arg for each in arguments if each.annotation and "constexpr" in ast.unparse(each.annotation)}
    if (item.module, item.name) in gathered.calls:
        return {}
    facts = gathered.parameters((item.module, f"{item.name}{LAUNCHED}"), node.args, method=False)
    return {name: fact for name, fact in facts.items() if name in compiled}


def functions_applied(item: Definition, gathered: Gathered) -> Iterator[ast.FunctionDef]:
    """The `forward` of a function of autograd that gets what `apply` is given."""
    bases = [ast.unparse(base) for base in getattr(item.node, "bases", ())]
    if "torch.autograd.Function" in bases and (METHOD, "apply") not in gathered.escaped:
        body = getattr(item.node, "body", ())
        yield from (part for part in body if isinstance(part, ast.FunctionDef) and f".{part.name}" == APPLIED)


def decorators(node: ast.stmt) -> set[str]:
    """The decorators of a function, as text."""
    return {*map(ast.unparse, getattr(node, "decorator_list", ()))}


def passes_arguments(node: ast.FunctionDef) -> bool:
    """Whether what a function is called with is what it gets."""
    return all(mark in PLAIN_DECORATORS or mark in BOUND or mark.startswith(OPERATOR) for mark in decorators(node))


def methods_called_by_us(item: Definition) -> Iterator[ast.FunctionDef]:
    """The methods of a class that nothing but the program itself calls."""
    kind = live(item.module, item.name)
    others = [base for base in getattr(kind, "__mro__", ()) if not base.__module__.startswith(OURS)]
    for method in getattr(item.node, "body", ()):
        if not isinstance(method, ast.FunctionDef) or not passes_arguments(method) or kind is None:
            continue
        if method.name == "__init__" or not (
            method.name.startswith("__") or any(hasattr(base, method.name) for base in others)
        ):
            yield method


def known_fields(program: Reached, gathered: Gathered) -> dict[tuple[type, str], Fact]:
    """What is known of the fields of each named tuple and dataclass."""
    found: dict[tuple[type, str], Fact] = {}
    for item, kind, fields in records(program):
        for name, fact in gathered.fields((item.module, item.name), [*fields], fields).items():
            found[kind, name] = fact
    return found


def records_read_by_name(program: Reached, gathered: Gathered) -> dict[str, tuple[str, ...]]:
    """Records, made by plain calls of their class, of which nothing reads all fields; each with its fields."""
    apart = {base for kind in gathered.taken_apart for base in kind.__mro__} | gathered.taken_apart
    found = {}
    for item, kind, fields in records(program):
        perhaps = object in gathered.taken_apart or any(sounds_like(names, [*fields]) for names in gathered.unpacked)
        whole = kind in apart or (perhaps and issubclass(kind, tuple))
        makes = any(isinstance(inner, ast.Name) and inner.id in ("cls", "type") for inner in walk(item.node))
        if not whole and not makes and (item.module, item.name) not in gathered.escaped | gathered.spread:
            found[item.name] = field_names(kind)
    return found


def sounds_like(names: tuple[str, ...], fields: list[str]) -> bool:
    """Whether what is taken apart into `names` may be a record with `fields`: as many, one of them called alike."""
    return len(names) == len(fields) and any(
        name.strip("_") == field for name, field in zip(names, fields, strict=True)
    )


def known_results(program: Reached, gathered: Gathered) -> dict[tuple[type, str], Fact]:
    """What properties, and methods (with brackets after their name), give that give the same plain value always.

    A method stays unknown where anything puts another function in its place.
    """
    found: dict[tuple[type, str], Fact] = {}
    homes: dict[str, list[type]] = {}
    for item in program.definitions:
        kind = live(item.module, item.name)
        for method in getattr(item.node, "body", ()) if isinstance(kind, type) else ():
            if not isinstance(method, ast.FunctionDef):
                for name, value in class_constants(method):
                    homes.setdefault(name, []).append(kind)
                    found[kind, name] = None if is_record(item.node) else literal_fact(value)
                continue
            homes.setdefault(method.name, []).append(kind)
            last = method.body[-1]
            before = [part for part in method.body[:-1] if not is_idle(part)]
            marks = decorators(method)
            if isinstance(last, ast.Return) and not before and marks <= {"property"}:
                name = method.name if marks else f"{method.name}()"
                found[kind, name] = literal_fact(last.value or ast.Constant(None))
    names = {key: key[1].removesuffix("()") for key, fact in found.items() if fact is not None}
    return {
        key: found[key]
        for key, name in names.items()
        if not any(other is not key[0] and issubclass(other, key[0]) for other in homes[name])
        and not may_be_assigned(key[0], name, gathered)
    }


def is_record(node: ast.stmt) -> bool:
    """Whether what a class gives names are defaults of fields."""
    return isinstance(node, ast.ClassDef) and keeps_annotations(node)


def class_constants(part: ast.stmt) -> Iterator[tuple[str, ast.expr]]:
    """The names that a statement in a class gives values to."""
    targets = part.targets if isinstance(part, ast.Assign) else [part.target] if isinstance(part, ast.AnnAssign) else []
    value = part.value if isinstance(part, ast.Assign | ast.AnnAssign) else None
    yield from ((target.id, value) for target in targets if isinstance(target, ast.Name) and value is not None)


def may_be_assigned(kind: type, name: str, gathered: Gathered) -> bool:
    """Whether something may put another value in the place of what the class `kind` has by that name."""
    makers = (live(*key) for key, attribute in gathered.kept if attribute == name)
    own = (not isinstance(other, type) or issubclass(kind, other) or issubclass(other, kind) for other in makers)
    return name in gathered.overwritten or any(own)


def is_idle(part: ast.stmt) -> bool:
    """Whether a statement of a function does nothing but document it or keep a plain value for it."""
    value = part.value if isinstance(part, ast.Expr | ast.Assign | ast.AnnAssign) else None
    return isinstance(value, ast.Constant) and not any(
        isinstance(target, ast.Attribute | ast.Subscript)
        for target in getattr(part, "targets", [getattr(part, "target", None)])
    )


def assumed_fields(program: Reached) -> dict[tuple[type, str], Fact]:
    """That fields which need not be given are never given, to be found true or not."""
    facts = (
        (kind, name, literal_fact(value)) for _, kind, fields in records(program) for name, value in fields.items()
    )
    return {(kind, name): fact for kind, name, fact in facts if fact is not None}


def makes_itself(part: ast.stmt) -> bool:
    """Whether a method may give an object other values than its constructor is given."""
    name = getattr(part, "name", "")
    return name in ("__init__", "__new__") or (name == "__post_init__" and "__setattr__" in ast.unparse(part))


def records(program: Reached) -> Iterator[tuple[Definition, type, dict[str, ast.expr | None]]]:
    """Classes of which an instance is what its constructor was given, each with its fields and their defaults."""
    for item in program.definitions:
        kind, node = live(item.module, item.name), item.node
        if not isinstance(kind, type) or not isinstance(node, ast.ClassDef) or not keeps_annotations(node):
            continue
        if any(makes_itself(part) for part in node.body):
            continue
        if any(base.__module__.startswith(OURS) for base in kind.__mro__[1:]):
            continue
        parts = [part for part in node.body if isinstance(part, ast.AnnAssign)]
        yield item, kind, {part.target.id: part.value for part in parts if isinstance(part.target, ast.Name)}
