"""What a benchmark says of a device's time."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch


@pytest.fixture(scope="module")
def benchmark() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
        yield importlib.import_module("device_time")


def test_pauses_are_told_from_waits_and_streams_beside_one_another_count_once(benchmark: ModuleType) -> None:
    spans = [(0.0, 100.0), (102.0, 200.0), (150.0, 180.0), (190.0, 300.0), (1300.0, 1400.0)]
    found = benchmark.device_time(reversed(spans))
    assert found.kernels == 5
    assert found.busy == pytest.approx((100 + 198 + 100) / 1000)
    assert found.gaps == pytest.approx(0.002)
    assert found.waits == pytest.approx(1.0)


def test_a_cpu_has_no_device_time(benchmark: ModuleType) -> None:
    profile = benchmark.profiled(lambda: torch.ones(3).sum(), "cpu")
    assert benchmark.device_time_of(profile) == (0, 0, 0, 0)
    assert "aten::sum" in benchmark.kernel_table(profile, "cpu")


@pytest.mark.gpu
def test_kernels_of_a_gpu_are_counted(benchmark: ModuleType) -> None:
    x = torch.randn(1024, 1024, device="cuda")

    def work() -> None:
        for _ in range(5):
            x.sin_()
        torch.cuda.synchronize()

    work()
    found = benchmark.device_time_of(benchmark.profiled(work, "cuda"))
    assert found.kernels == 5
    assert 0 < found.busy < 100
