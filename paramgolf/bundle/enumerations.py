"""Members of enumerations that only stand for themselves: numbers instead of words.

What asks a member for its value, or an enumeration for the member of a value, keeps all values as they are.
"""

import ast

BY_VALUE = frozenset({"value", "_value_", "_value2member_map_"})
"""Attributes that tell of values."""


def with_numbered_members(tree: ast.Module) -> ast.Module:
    """`tree`, changed in place."""
    asked = {
        enumeration_of(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr in BY_VALUE
    }
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    for node in tree.body if "" not in asked else ():
        if isinstance(node, ast.ClassDef) and [ast.unparse(base) for base in node.bases] == ["Enum"]:
            names = [name for item in node.body if (name := member(item))]
            if len(names) == len(node.body) > 1 and node.name not in called | asked:
                node.body = list(ast.parse(f"{', '.join(names)} = range({len(names)})").body)
    return tree


def enumeration_of(node: ast.Attribute) -> str:
    """`Kind` of `Kind.MEMBER.value`; nothing of any other `.value`."""
    inner = node.value.value if isinstance(node.value, ast.Attribute) else None
    return inner.id if isinstance(inner, ast.Name) else ""


def member(item: ast.stmt) -> str:
    """The name of a member whose value is a word; nothing for any other statement."""
    if not isinstance(item, ast.Assign) or not isinstance(item.targets[0], ast.Name) or len(item.targets) > 1:
        return ""
    return item.targets[0].id if isinstance(item.value, ast.Constant) and isinstance(item.value.value, str) else ""
