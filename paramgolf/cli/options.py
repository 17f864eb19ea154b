"""Options that several commands share."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from paramgolf.cli.script_size import ScriptSize

if TYPE_CHECKING:
    from paramgolf.lab.launch import Launch

Settings = Annotated[tuple[str, ...], Parameter(name="--set", negative=(), show_default=False)]
Json = Annotated[bool, Parameter(negative=(), show_default=False)]
Switch = Annotated[bool, Parameter(negative=(), show_default=False)]
Device = Literal["auto", "cpu", "cuda", "mps"]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What may be asked of a run."""

    settings: Settings = ()
    """Change one setting, as optim.matrix.lr=0.03; may be repeated."""
    seed: int | None = None
    """Seed of weights and data order; by default the preset's."""
    data: str | None = None
    """A prepared folder, or a corpus: a name or a folder of texts. By default what the preset names."""
    device: Device = "auto"
    """Where to compute."""
    resume: str | None = None
    """Go on with a run: its folder, or auto for the newest unfinished one like this."""
    runs: Path = Path("runs")
    """Where folders of runs stand."""
    data_root: Path = Path("data")
    """Where corpora are prepared and fetched data stands."""

    def launch(self, preset: str | None, *, seed: int | None = None) -> "Launch":
        """The same for `lab.launch`; `seed` in place of the own one."""
        from paramgolf.lab.launch import Launch

        return Launch(
            preset=preset,
            settings=self.settings,
            seed=self.seed if seed is None else seed,
            data=self.data,
            data_root=self.data_root,
            runs=self.runs,
            resume=self.resume,
            code_size=ScriptSize(self.data_root),
        )
