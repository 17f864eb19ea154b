"""An upper bound on the bytes of code that count: what a run imports, as one compressed archive.

It is made at once, and honest rather than tight: whole modules with their comments and docstrings, imports inside
functions and for type checking too, and nothing minified. What counts in the end is the bundle, which takes a while to
make (`bundle.size.bundle_size`), so it is asked for where this bound does not settle whether a budget holds. A package
that is only on the way to a module counts as an empty file: the `__init__.py` of a catalogue imports everything there
is to choose from.
"""

import ast
import io
import lzma
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from paramgolf.errors import UsageError


def own_package() -> Path:
    """The folder of this package."""
    return Path(__file__).resolve().parent.parent


def code_bytes(entry: str, *, also: Iterable[str] = (), package: Path | None = None) -> int:
    """Upper bound on the bytes of code that running the module `entry` needs; see `code_archive`."""
    return len(code_archive(entry, also=also, package=package))


def imported_code(run: Any) -> int:
    """Upper bound on the bytes of code that carrying out the configuration `run` needs."""
    return code_bytes("paramgolf.stages", also=config_modules(run))


def code_archive(entry: str, *, also: Iterable[str] = (), package: Path | None = None) -> bytes:
    """A .tar.xz of every module of ours that importing `entry` and `also` (dotted names) imports.

    For a run, `also` is `config_modules` of its config. Packages from which nothing itself is imported are empty files.
    Deterministic: modules sorted by path, no times, owners or permissions. Unpacked alone, it runs. Raises
    `UsageError` for a module that does not exist.
    """
    package = package or own_package()
    modules = reachable_modules((entry, *also), package)
    sources = {path: path.read_bytes() for path in modules.values()}
    for name in {parent for module in modules for parent in parents_of(module)} - modules.keys():
        sources[existing_module(name, package)] = b""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in sorted(sources):
            member = tarfile.TarInfo(path.relative_to(package.parent).as_posix())
            member.size = len(sources[path])
            archive.addfile(member, io.BytesIO(sources[path]))
    return lzma.compress(file.getvalue(), check=lzma.CHECK_CRC32, preset=9 | lzma.PRESET_EXTREME)


def config_modules(config: Any) -> set[str]:
    """Names of our modules that define the classes of `config` and of the configs inside it."""
    if isinstance(config, tuple):
        return set().union(*map(config_modules, config))
    if not is_dataclass(config):
        return set()
    inner = (config_modules(getattr(config, field.name)) for field in fields(config))
    return {type(config).__module__}.union(*inner)


def reachable_modules(names: Sequence[str], package: Path) -> dict[str, Path]:
    """Module name -> file of everything in `package` that importing `names` imports.

    A package that is only on the way to a module is left out.
    """
    found: dict[str, Path] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found[name] = existing_module(name, package)
        waiting += imported_modules(found[name], package)
    return found


def existing_module(name: str, package: Path) -> Path:
    """The file of module `name`; `UsageError` when there is none."""
    path = module_path(name, package)
    if path is None:
        raise UsageError(f"there is no module {name} in the package {package.name}")
    return path


def module_path(name: str, package: Path) -> Path | None:
    """The file of module `name` of `package`, if it is one."""
    head, *tail = name.split(".")
    stem = package.joinpath(*tail)
    places = (stem.with_suffix(".py"), stem / "__init__.py") if tail else (package / "__init__.py",)
    return next((path for path in places if head == package.name and path.is_file()), None)


def parents_of(name: str) -> Iterator[str]:
    """The packages that are imported before module `name`."""
    while "." in name:
        name = name.rpartition(".")[0]
        yield name


def imported_modules(path: Path, package: Path) -> Iterator[str]:
    """Modules of ours that the file imports anywhere, inside functions and for type checking too."""
    for node in ast.walk(ast.parse(path.read_bytes(), path.name)):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            # `from package import name` may mean a module of that name, or a name of the package itself.
            whole = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            yield from (name for name in whole if module_path(name, package))
        elif isinstance(node, ast.Import):
            # `import package.module` gives the package, and with it whatever its own file defines.
            whole = [name for alias in node.names for name in (alias.name, *parents_of(alias.name))]
            yield from (name for name in whole if module_path(name, package))
