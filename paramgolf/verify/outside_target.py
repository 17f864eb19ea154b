"""A predictor of somebody else, named as `module:Name`, as a case."""

import sys
from collections.abc import Sequence
from importlib import import_module
from inspect import isclass, isfunction
from pathlib import Path
from typing import Any, cast

import numpy as np

from paramgolf.contest import Contest
from paramgolf.data.dataset import Dataset
from paramgolf.errors import UsageError
from paramgolf.registry import nearest
from paramgolf.verify.byte_accounting import ByteClaim
from paramgolf.verify.containment import Sizes
from paramgolf.verify.judge import Case
from paramgolf.verify.passes import probe_stream
from paramgolf.verify.predictor import Ints, Predictor
from paramgolf.verify.run_target import validation_bytes
from paramgolf.verify.watch import watching


def is_predictor_name(target: str) -> bool:
    """Whether `target` reads as `module:Name`."""
    module, colon, name = target.partition(":")
    return bool(colon) and name.isidentifier() and all(part.isidentifier() for part in module.split("."))


def outside_predictor(target: str) -> Predictor:
    """The predictor `module:Name`: an object, or a class or function without arguments that makes one.

    The module is looked for in the current folder too. Raises `UsageError` when there is none.
    """
    module_name, _, name = target.partition(":")
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        module = import_module(module_name)
    except ImportError as error:
        raise UsageError(
            f"the module {module_name} cannot be imported",
            evidence=str(error),
            fix="run where it lies, as python -m does",
        ) from error
    finally:
        if added:
            sys.path.remove(here)
    if not hasattr(module, name):
        known = [word for word in vars(module) if not word.startswith("_")]
        raise UsageError(f"{module_name} has no {name}{nearest(name, known)}")
    found = getattr(module, name)
    made: Any = found() if isclass(found) or isfunction(found) else found
    missing = [method for method in ("begin", "predict") if not callable(getattr(made, method, None))]
    if missing:
        raise UsageError(
            f"{target} is no predictor: it has no {' and no '.join(missing)}",
            fix="see paramgolf/verify/predictor.py and examples/verify_predictor.py",
        )
    return cast(Predictor, made)


def outside_case(target: str, dataset: Dataset, *, contest: Contest, probe_tokens: int, best: Sequence[float]) -> Case:
    """The predictor `target`, watched from its import on, judged on the validation split of `dataset`.

    Optional attributes of the predictor: `target_bytes(tokens)`, how it counts; `files`, paths of the counted weights
    and code it reads while scoring, `code` those of them that are code.
    """
    tokens, _ = validation_bytes(dataset)
    with watching() as heard:
        predictor = outside_predictor(target)
    files = tuple(Path(path) for path in getattr(predictor, "files", ()))
    return Case(
        target=target,
        kind="predictor",
        contest=contest,
        predictor=predictor,
        stream=probe_stream(tokens, dataset.tokenizer.vocab, probe_tokens),
        own_files=files,
        heard=heard,
        tokens=tokens,
        tokenizer=dataset.tokenizer,
        bytes_claim=own_count(predictor, tokens, sidecar=bool(dataset.val_bytes)),
        sizes=own_sizes(predictor, files),
        train=dataset.train,
        val=dataset.val,
        best=tuple(best),
        facts=(("data", f"{dataset.name}, tokenizer {dataset.tokenizer.name}, {len(tokens):,} validation tokens"),),
    )


def own_count(predictor: Predictor, tokens: Ints, *, sidecar: bool) -> ByteClaim | None:
    """The bytes that the predictor counts for each target, if it says so."""
    count = getattr(predictor, "target_bytes", None)
    if count is None:
        return None
    per_target = np.asarray(count(tokens), np.int64).ravel()
    if len(per_target) != len(tokens) - 1:
        raise UsageError(
            "the predictor's target_bytes does not give a number for each target",
            evidence=f"{len(per_target):,} numbers for {len(tokens) - 1:,} targets",
        )
    return ByteClaim(int(per_target.sum()), per_target, sidecar=sidecar)


def own_sizes(predictor: Predictor, files: Sequence[Path]) -> tuple[Sizes, ...]:
    """The bytes of the files that the predictor names as its own."""
    if not files:
        return ()
    code = {Path(path) for path in getattr(predictor, "code", ())}
    sizes = {path: path.stat().st_size for path in {*files, *code}}
    of_code = sum(size for path, size in sizes.items() if path in code)
    return (Sizes(sum(sizes.values()) - of_code, of_code),)
