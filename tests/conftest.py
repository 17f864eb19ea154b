"""Fixtures of the whole suite."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# A busy machine is no failure.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Tests run beside one another, and sums must not depend on how many cores a machine has."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def same_arithmetic() -> Iterator[None]:
    """A run asks torch for deterministic kernels; the next test starts without."""
    import torch

    before = torch.are_deterministic_algorithms_enabled()
    yield
    torch.use_deterministic_algorithms(before)


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory):
    """The dataset of `tiny_dataset`, made once."""
    from tiny import tiny_dataset

    return tiny_dataset(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def run_path(tmp_path: Path) -> Path:
    """Where a test's run may put its folder."""
    return tmp_path / "run"
