import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from limits import file_size_limit

from paramgolf.errors import GolfError
from paramgolf.train.checkpoint import FILE_NAME, Checkpoint, has_checkpoint, load_checkpoint, save_checkpoint


def some_checkpoint(step: int = 3, size: int = 50) -> Checkpoint:
    return Checkpoint(
        step=step,
        seconds=1.25,
        weights={"a": torch.randn(size, 2), "b.c": torch.tensor(2.0)},
        optimizer={"muon/a": torch.randn(size, 2).mT, "adam/step": torch.tensor(7.0)},
        loader={"position": 2**40, "data": "ab", "cursors": [[1, 2], [3, 4]]},
        notes={"digest": "0123", "trained": {"loss": float("nan"), "steps": step}},
    )


def same(first: Checkpoint, second: Checkpoint) -> None:
    assert repr(first._replace(weights={}, optimizer={})) == repr(second._replace(weights={}, optimizer={}))
    for tensors, others in ((first.weights, second.weights), (first.optimizer, second.optimizer)):
        assert tensors.keys() == others.keys()
        assert all(torch.equal(tensors[name], others[name]) for name in tensors)


def test_a_checkpoint_comes_back_whole_with_the_random_state(tmp_path: Path):
    saved = some_checkpoint()
    assert not has_checkpoint(tmp_path / "checkpoint")
    save_checkpoint(tmp_path / "checkpoint", saved)
    expected = torch.rand(5)
    assert has_checkpoint(tmp_path / "checkpoint")
    same(load_checkpoint(tmp_path / "checkpoint"), saved)
    assert torch.equal(torch.rand(5), expected)


def test_a_new_one_replaces_the_old_and_sweeps_up_after_a_kill(tmp_path: Path):
    save_checkpoint(tmp_path, some_checkpoint(1))
    (tmp_path / f".{FILE_NAME}.4711").write_bytes(b"half")
    save_checkpoint(tmp_path, some_checkpoint(2))
    assert load_checkpoint(tmp_path).step == 2
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


def test_what_the_library_leaves_when_it_is_killed_is_swept_up_too(tmp_path: Path):
    (tmp_path / ".tmp-of-mine").touch()
    saves = (
        "import sys, torch; from pathlib import Path; from safetensors.torch import save_file\n"
        "while True: save_file({'a': torch.zeros(20_000_000)}, Path(sys.argv[1]))"
    )
    killed = subprocess.Popen([sys.executable, "-c", saves, tmp_path / f".{FILE_NAME}.4711"])
    ends = time.monotonic() + 60
    while not list(tmp_path.glob(".tmp??????")):
        assert time.monotonic() < ends, "the library calls its file something else now"
    killed.kill()
    killed.wait()
    save_checkpoint(tmp_path, some_checkpoint())
    assert sorted(path.name for path in tmp_path.iterdir()) == [".tmp-of-mine", FILE_NAME]


def test_a_full_disk_keeps_the_one_before(tmp_path: Path):
    saved = some_checkpoint(1)
    save_checkpoint(tmp_path, saved)
    before = (tmp_path / FILE_NAME).read_bytes()
    with file_size_limit(20_000), pytest.raises(GolfError, match="could not be written; the one before it is intact"):
        save_checkpoint(tmp_path, some_checkpoint(2, size=5000))
    assert (tmp_path / FILE_NAME).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]
    same(load_checkpoint(tmp_path), saved)


@given(cut=st.integers(0, 8000), flip=st.none() | st.integers(0, 1500))
@settings(max_examples=60)
def test_a_damaged_header_is_told(cut: int, flip: int | None, tmp_path_factory: pytest.TempPathFactory):
    """Truncation anywhere; a changed byte of the header either is told or changes nothing that is read."""
    folder = tmp_path_factory.mktemp("damaged")
    save_checkpoint(folder, some_checkpoint())
    path = folder / FILE_NAME
    whole = path.read_bytes()
    if flip is None:
        path.write_bytes(whole[: min(cut, len(whole) - 1)])
        with pytest.raises(GolfError, match="the checkpoint is damaged"):
            load_checkpoint(folder)
    else:
        path.write_bytes(whole[:flip] + bytes([whole[flip] ^ 1]) + whole[flip + 1 :])
        with suppress(GolfError):
            load_checkpoint(folder)


def test_another_file_is_no_checkpoint(tmp_path: Path):
    (tmp_path / FILE_NAME).write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(GolfError, match="the checkpoint is damaged"):
        load_checkpoint(tmp_path)
