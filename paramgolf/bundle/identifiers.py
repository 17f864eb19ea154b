"""Where the identifiers of a script stand, and which of them must be told apart.

Four kinds of words: fields (attributes and methods), parameters that callers pass by name, locals of a function with
everything inside it, and globals. Names in one function differ, so do all fields, all such parameters, and all globals.
"""

import ast
import builtins
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from paramgolf.bundle.guards import OTHERS
from paramgolf.bundle.quiet import called
from paramgolf.bundle.trees import walk

FIELD_SPACE, GLOBAL_SPACE, KEYWORD_SPACE = -1, -2, -3
"""Where all fields, all globals, and all parameters passed by name must differ; functions are counted from 0."""
BY_FIELDS = frozenset({"_replace", "replace", "cls"})
"""What takes fields of records of ours by name."""


BINDERS = ast.FunctionDef | ast.ClassDef | ast.ExceptHandler | ast.MatchAs | ast.MatchStar
"""Nodes that bind their `name`, if they have one."""


class Word(NamedTuple):
    """What gets one name."""

    kind: str
    """`field`, `parameter`, `local` or `global`."""
    name: str


class Keywords:
    """The names by which the calls of a script pass arguments."""

    def __init__(self, tree: ast.Module) -> None:
        functions = [node for node in walk(tree) if isinstance(node, ast.FunctionDef)]
        listed = {node.name for node in functions if node.args.kwarg}
        records = set(record_names(tree))
        classes = {node.name for node in walk(tree) if isinstance(node, ast.ClassDef)}
        defined = ({node.name for node in functions} | classes) - listed
        libraries = {name for thing in OTHERS for name in dir(thing)}
        words = {node.value for node in walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
        self.kinds: dict[int, str] = {}
        """Whether a keyword node names a `field` of a record or a `parameter` of a function."""
        self.unknown: set[str] = set()
        """Passed to what is not of the script, or takes whatever it is given."""
        for node in walk(tree):
            if isinstance(node, ast.Call):
                name = called(partial_of(node))
                library = isinstance(partial_of(node).func, ast.Attribute) and name in libraries
                kind = "field" if name in BY_FIELDS | records else "parameter"
                if any(item.arg is None for item in node.keywords) and name not in records:
                    # The keys of what is spread are names of parameters: of these functions, or of any.
                    taken = [item for function in functions if function.name == name for item in walk(function.args)]
                    named = {item.arg for item in taken if isinstance(item, ast.arg)}
                    self.unknown |= named or (set() if library else words)
                if name in BY_FIELDS or is_super_init(node) or (name in defined and not library):
                    self.kinds |= {id(item): kind for item in node.keywords}
                else:
                    self.unknown |= {item.arg for item in node.keywords if item.arg}
        self.parameters = {node.arg for node in keyword_nodes(tree) if self.kinds.get(id(node)) == "parameter"}
        self.fields = {node.arg for node in keyword_nodes(tree) if self.kinds.get(id(node)) == "field"}


def keyword_nodes(tree: ast.Module) -> Iterator[ast.keyword]:
    """Arguments that are passed by name."""
    yield from (node for node in walk(tree) if isinstance(node, ast.keyword) and node.arg)


def record_names(tree: ast.Module) -> Iterator[str]:
    """Classes whose constructor takes their fields."""
    found: set[str] = set()
    for node in walk(tree):
        if isinstance(node, ast.ClassDef) and not any(getattr(item, "name", "") == "__init__" for item in node.body):
            inherits = any(ast.unparse(base) in found for base in node.bases)
            if inherits or any(isinstance(item, ast.AnnAssign) for item in node.body):
                found.add(node.name)
                yield node.name


def partial_of(call: ast.Call) -> ast.Call:
    """A call; where it is of `partial`, one of the function that this is given."""
    return ast.Call(call.args[0], [], []) if called(call) == "partial" and call.args else call


def is_super_init(call: ast.Call) -> bool:
    """Whether a call is of `super().__init__`."""
    return ast.unparse(call.func) == "super().__init__"


class Identifiers:
    """Every place where a word stands."""

    def __init__(self, tree: ast.Module, fields: frozenset[str], keywords: Keywords) -> None:
        self.globals = set(globals_of(tree.body))
        self.fields = fields
        """Fields that get another name."""
        self.keywords = keywords
        self.passed = keywords.parameters | keywords.unknown
        """Parameters of these names are passed by name."""
        self.slots: list[tuple[ast.AST, str, Word]] = []
        """Node, attribute of the node, word."""
        self.spaces: dict[Word, set[int]] = defaultdict(set)
        """Where a word must differ from others."""
        self.kept: dict[int, set[str]] = defaultdict(set)
        """What else is named there."""
        self.members: set[int] = set()
        """Nodes that name a member of a class."""
        self.count = 0
        self.read_members(tree)
        self.read_block(tree.body)

    def note(self, node: ast.AST, place: str, word: Word | None, *spaces: int) -> None:
        """Remember a place; without a word, the name there stays."""
        if word is None or word.name.startswith("__") or word.name == "_":
            for space in spaces:
                self.kept[space].add(getattr(node, place))
            return
        self.slots.append((node, place, word))
        self.spaces[word].update(spaces, (GLOBAL_SPACE,) if word.kind == "global" else ())

    def field(self, name: str) -> Word | None:
        """The word for an attribute."""
        return Word("field", name) if name in self.fields else None

    def parameter(self, name: str) -> Word | None:
        """The word for a parameter that is passed by name, beside a global that has that name too."""
        hidden = name in self.keywords.unknown or name in self.globals or hasattr(builtins, name)
        return None if hidden else Word("parameter", name)

    def read_members(self, tree: ast.Module) -> None:
        """Attributes, keywords, and what the bodies of classes define."""
        for node in walk(tree):
            if isinstance(node, ast.Attribute):
                self.note(node, "attr", self.field(node.attr), FIELD_SPACE)
            elif isinstance(node, ast.keyword) and node.arg:
                kind = self.keywords.kinds.get(id(node))
                word = self.parameter(node.arg) if kind == "parameter" else self.field(node.arg) if kind else None
                self.note(node, "arg", word, FIELD_SPACE if kind == "field" else KEYWORD_SPACE)
            elif isinstance(node, ast.ClassDef):
                for part, place in members_of(node):
                    self.members.add(id(part))
                    self.note(part, place, self.field(getattr(part, place)), FIELD_SPACE)

    def read_block(self, body: list[ast.stmt]) -> None:
        """The statements at the top of a module, of a class, or of a `try` there."""
        for node in body:
            if isinstance(node, ast.ClassDef):
                self.note(node, "name", self.at_top(node.name), GLOBAL_SPACE)
                self.read_class(node)
            elif isinstance(node, ast.Import | ast.ImportFrom):
                self.read_import(node, GLOBAL_SPACE)
            elif isinstance(node, ast.Try | ast.If):
                self.read_block(node.body)
                for part in (node.test,) if isinstance(node, ast.If) else node.handlers:
                    self.read_function(part)
            else:
                if isinstance(node, ast.FunctionDef) and id(node) not in self.members:
                    self.note(node, "name", self.at_top(node.name), GLOBAL_SPACE)
                self.read_function(node)

    def read_class(self, node: ast.ClassDef) -> None:
        """A class: its own names, beside the globals that its body uses, and every member."""
        space = self.new_space()
        for part, place in members_of(node):
            self.note_space(self.field(getattr(part, place)), getattr(part, place), space)
        for part in (*node.decorator_list, *node.bases, *node.keywords):
            self.read_function(part)
        for inner in inside_class(node):
            if isinstance(inner, ast.Name) and inner.id in self.globals:
                self.note_space(self.at_top(inner.id), inner.id, space)
        self.read_block(node.body)

    def note_space(self, word: Word | None, name: str, space: int) -> None:
        """Tell a word apart from others in `space` too."""
        if word is None:
            self.kept[space].add(name)
        else:
            self.spaces[word].add(space)

    def new_space(self) -> int:
        """The number of another space."""
        self.count += 1
        return self.count - 1

    def at_top(self, name: str) -> Word | None:
        """The word for a global."""
        return Word("global", name) if name in self.globals and name not in self.passed else None

    def read_import(self, node: ast.Import | ast.ImportFrom, space: int) -> None:
        """The names that an import binds."""
        for alias in node.names:
            name = alias.asname or alias.name
            known = "." not in name and (space == GLOBAL_SPACE or name in self.globals)
            word = None if "." in name else self.at_top(name) if known else Word("local", name)
            if word is None:
                self.kept[space].add(name.split(".")[0])
            else:
                self.slots.append((alias, "asname", word))
                self.spaces[word].add(space)

    def read_function(self, block: ast.AST) -> None:
        """A function and everything inside it, or one statement at the top."""
        space = self.new_space()
        named, arguments = set(bound_names(block)), argument_words(block)
        fixed = {name for node in walk(block) if isinstance(node, ast.Global | ast.Nonlocal) for name in node.names}

        def word_of(name: str) -> Word | None:
            """Where a name is a global and bound inside as well, the one word serves both."""
            if name in fixed or (name in named and hasattr(builtins, name)):
                return None
            if name in arguments and name in self.passed:
                return self.parameter(name)
            return self.at_top(name) if name in self.globals else Word("local", name) if name in named else None

        for node in walk(block):
            if isinstance(node, ast.Name) and id(node) not in self.members:
                self.note(node, "id", word_of(node.id), space)
            elif isinstance(node, ast.arg):
                self.note(node, "arg", word_of(node.arg), space)
            elif isinstance(node, BINDERS) and node is not block and id(node) not in self.members and node.name:
                self.note(node, "name", word_of(node.name), space)
            elif isinstance(node, ast.Import | ast.ImportFrom):
                self.read_import(node, space)


def globals_of(body: list[ast.stmt]) -> Iterator[str]:
    """The names that the top of a script binds."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((alias.asname or alias.name).split(".")[0] for alias in node.names)
        elif isinstance(node, ast.Try | ast.If):
            yield from globals_of(node.body)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            yield from (target.id for target in targets_of(node))


def targets_of(item: ast.stmt) -> list[ast.Name]:
    """The names that a statement assigns."""
    targets = item.targets if isinstance(item, ast.Assign) else [item.target] if isinstance(item, ast.AnnAssign) else []
    names = (inner for target in targets for inner in walk(target) if isinstance(inner, ast.Name))
    return [name for name in names if not isinstance(name.ctx, ast.Load)]


def members_of(node: ast.ClassDef) -> Iterator[tuple[ast.AST, str]]:
    """What the body of a class defines: nodes, and the attribute that has the name."""
    for item in node.body:
        if isinstance(item, ast.FunctionDef):
            yield item, "name"
        yield from ((target, "id") for target in targets_of(item))


def inside_class(node: ast.ClassDef) -> Iterator[ast.AST]:
    """What is evaluated in the name space of a class."""
    for item in node.body:
        if isinstance(item, ast.FunctionDef):
            defaults = [*item.args.defaults, *(default for default in item.args.kw_defaults if default)]
            for part in (*item.decorator_list, *defaults):
                yield from walk(part)
        else:
            yield from walk(item)


def own_fields(tree: ast.Module) -> set[str]:
    """Fields, methods and attributes that a script defines."""
    found = {node.attr for node in walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)}
    classes = [node for node in walk(tree) if isinstance(node, ast.ClassDef)]
    return found | {getattr(part, place) for node in classes for part, place in members_of(node)}


def argument_words(block: ast.AST) -> set[str]:
    """The names of the parameters of every function in `block`."""
    return {node.arg for node in walk(block) if isinstance(node, ast.arg)}


def bound_names(block: ast.AST) -> Iterator[str]:
    """Every name that something inside `block` binds."""
    for node in walk(block):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((alias.asname or alias.name).split(".")[0] for alias in node.names)
        elif isinstance(node, BINDERS) and node is not block and node.name:
            yield node.name
