"""`bundle`: one self-contained script from a preset or a run, and the proof that it does the same."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from paramgolf.cli.catalogue import meant
from paramgolf.cli.options import Json, Settings
from paramgolf.cli.output import print_json, print_rows, print_text
from paramgolf.cli.progress import Status, display
from paramgolf.errors import GolfError

if TYPE_CHECKING:
    from paramgolf.bundle.prove import Proof
    from paramgolf.run import Run


def bundle_command(
    what: str,
    /,
    *,
    out: Path = Path("bundle"),
    settings: Settings = (),
    packing: Literal["mixed", "dense", "base85"] = "mixed",
    proof: bool = True,
    device: Literal["cpu", "cuda"] = "cpu",
    json: Json = False,
) -> int:
    """Write train_gpt.py, which trains, exports and scores without the package, and the same code readable.

    Parameters
    ----------
    what
        Name of a preset, folder of a run, or a configuration as TOML.
    out
        Folder for the scripts.
    settings
        Change one setting of the preset, as optim.matrix.lr=0.03; may be repeated.
    packing
        How code is compressed and stands in the file: mixed (context mixing, smallest, unpacks in 15 to 35 seconds),
        dense (brotli or LZMA as latin-1 characters) or base85 (the same in printable characters, 22 % larger).
    proof
        Run the bundle and the package at reduced size and compare every number; --no-proof leaves it out.
    device
        Where the proof runs: on cpu every bit must be the same, on cuda losses and scores must be as near as two runs
        of one program are.
    json
        Print sizes and proof as JSON.
    """
    from paramgolf.bundle.amalgamate import amalgamate
    from paramgolf.bundle.shrink import packed
    from paramgolf.config import overridden

    run = overridden(meant(what), settings)
    with display() as shown:
        shown.show(Status("bundle", "the code that the run needs"))
        script = amalgamate(run)
        shown.show(Status("pack", f"{len(script.lean):,} characters"))
        shipped = packed(script.lean, packing)
        if proof:
            shown.show(Status("prove", "package and bundle at reduced size"))
        proofs = proven(run, device) if proof else []
    out.mkdir(parents=True, exist_ok=True)
    (out / "train_gpt.py").write_bytes(shipped.content)
    (out / "train_gpt_readable.py").write_text(script.readable, encoding="utf-8")
    told = {
        "preset": run.name,
        "digest": run.digest,
        "bytes": len(shipped.content),
        "coder": shipped.coder,
        "packing": packing,
        "minified": len(shipped.minified),
        "readable": len(script.readable),
        "modules": script.sizes,
        "proof": [{**each._asdict(), "equal": each.equal} for each in proofs],
    }
    if json:
        print_json(told)
    else:
        whole, code = len(shipped.content), sum(script.sizes.values())
        ordered = sorted(script.sizes.items(), key=lambda pair: -pair[1])
        rows = [(module, f"{size:,}", f"{whole * size / code:,.0f}") for module, size in ordered]
        print_rows(("module", "characters", "bytes, about"), rows, right=(1, 2))
        print_text(f"\n{out / 'train_gpt.py'}: {whole:,} bytes ({shipped.coder}, {packing})")
        for each in proofs:
            same = f"{each.bundle['outputs']:,} tensors, losses, scores and artifact equal the package's"
            near = f"losses {each.bundle['losses']} and scores near the package's {each.package['losses']}"
            print_text(f"proof on {device}: {same if device == 'cpu' else near}")
    return 0


def proven(run: "Run", device: str = "cpu") -> "list[Proof]":
    """The proof of a run's bundle. Raises `GolfError` when it gives other numbers."""
    from tempfile import TemporaryDirectory

    from paramgolf.bundle.prove import prove

    with TemporaryDirectory() as folder:
        proofs = prove([run], Path(folder), device)
    for each in proofs:
        if not each.equal:
            raise GolfError(
                "the bundle does not give the numbers of the package, so it is not written",
                evidence=f"package {each.package}, bundle {each.bundle}"[:800],
                fix="report it with the configuration",
            )
    return proofs
