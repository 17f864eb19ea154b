import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from limits import file_size_limit

from paramgolf.errors import GolfError
from paramgolf.events import Events, read_events

texts = st.text(st.characters(exclude_categories=["Cs"]))
values = st.dictionaries(
    texts.filter(lambda key: key not in ("event", "self", "time")), texts | st.integers() | st.none()
)


@given(records=st.lists(values, max_size=5))
@settings(max_examples=50)
def test_events_are_read_back_as_they_were_told(records, tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.mktemp("events") / "events.jsonl"
    events = Events(path)
    for record in records:
        events.emit("kind", **record)
    read = list(read_events(path)) if records else []
    assert [{**record, "event": "kind", "time": got["time"]} for record, got in zip(records, read, strict=True)] == read
    assert all(abs(got["time"] - time.time()) < 60 for got in read)
    assert not records or len(path.read_bytes().splitlines()) == len(records)


def test_listeners_hear_what_is_recorded_and_what_is_only_said(tmp_path: Path):
    heard = []
    events = Events(tmp_path / "events.jsonl", (heard.append,))
    events.emit("step", loss=1.0)
    events.say("scoring", share=0.5)
    assert [event["event"] for event in heard] == ["step", "scoring"]
    assert [event["event"] for event in read_events(tmp_path / "events.jsonl")] == ["step"]
    Events(None, (heard.append,)).emit("step", loss=2.0)
    assert heard[-1]["loss"] == 2.0


@given(cut=st.integers(0, 200))
@settings(max_examples=60)
def test_a_line_that_was_cut_costs_only_itself(cut: int, tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.mktemp("events") / "events.jsonl"
    events = Events(path)
    for step in range(4):
        events.emit("step", step=step)
    whole = path.read_bytes()
    path.write_bytes(whole[: min(cut, len(whole))])
    ended = [event["step"] for event in read_events(path)]
    assert ended == list(range(len(ended)))
    Events(path).emit("step", step=99)
    assert [event["step"] for event in read_events(path)] == [*ended, 99]
    assert len(ended) >= min(cut, len(whole)) * 4 // len(whole)


def test_what_is_not_a_record_is_skipped(tmp_path: Path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'\n3\nnull\n[1]\n{"event": "x"}\n\xff\xfe\n{"event": "y"}')
    assert [event["event"] for event in read_events(path)] == ["x", "y"]


WRITER = """
import sys
from pathlib import Path
from paramgolf.events import Events
events = Events(Path(sys.argv[1]))
print("ready", flush=True)
step = 0
while True:
    events.emit("step", step=step, text="x" * 300)
    step += 1
"""


def test_a_kill_leaves_whole_lines(tmp_path: Path):
    path = tmp_path / "events.jsonl"
    with subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        while not path.exists() or path.stat().st_size < 20_000:
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
    steps = [json.loads(line)["step"] for line in path.read_bytes().splitlines()]
    assert steps == list(range(len(steps)))


def test_a_full_disk_is_told(tmp_path: Path):
    path = tmp_path / "events.jsonl"
    events = Events(path)
    events.emit("first")
    before = path.read_bytes()
    with file_size_limit(len(before)), pytest.raises(GolfError, match=r"events\.jsonl could not be written") as caught:
        events.emit("second")
    assert "free some space" in caught.value.fix
    assert path.read_bytes() == before
