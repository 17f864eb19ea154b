"""Errors that a user can act on: the cause, the evidence, the next command, an exit code."""


class GolfError(Exception):
    """Something a user can mend. Exit code 1: a check failed or an input is damaged."""

    exit_code = 1

    def __init__(self, cause: str, *, evidence: str = "", fix: str = "") -> None:
        super().__init__(cause)
        self.cause = cause
        self.evidence = evidence
        self.fix = fix

    def __str__(self) -> str:
        lines = [self.cause]
        if self.evidence:
            lines.append(f"  evidence: {self.evidence}")
        if self.fix:
            lines.append(f"  next: {self.fix}")
        return "\n".join(lines)


class UsageError(GolfError, ValueError):
    """The command or configuration asks for something that does not exist. Exit code 2."""

    exit_code = 2


class OverBytes(GolfError):
    """An artifact exceeds its byte budget. Exit code 3."""

    exit_code = 3


class OverTime(GolfError):
    """A time budget was exceeded, or is too small for the work. Exit code 4."""

    exit_code = 4


class DataError(GolfError):
    """Data that is missing, damaged or not what it claims to be. Exit code 1."""


class ArtifactError(GolfError):
    """An artifact that is damaged, truncated or belongs to another model. Exit code 1."""


class Interrupted(GolfError):
    """A signal stopped the run; what was done is saved. Exit code 128 + its number, as a shell has it: 130, 143."""

    def __init__(self, cause: str, *, signal_number: int, evidence: str = "", fix: str = "") -> None:
        super().__init__(cause, evidence=evidence, fix=fix)
        self.signal_number = signal_number
        self.exit_code = 128 + signal_number
