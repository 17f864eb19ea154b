"""Measured points, kept as JSON lines: a survey that was interrupted goes on where it stopped."""

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

from paramgolf.events import append, end_last_line, read_events

POINTS_FILE = "points.jsonl"


class Point(NamedTuple):
    """One export, measured by the exact round trip through the bytes of its artifact."""

    label: str
    survey: str
    """Which question it was measured for."""
    bytes: int
    """Of the artifact, code left out."""
    bpb: float | None
    """From the decoded artifact; None where it was not scored."""
    lost: float | None
    """`bpb` less that of the trained weights as they are."""
    encode_seconds: float
    """From stored weights to bytes, and below back; quantizing and scoring left out."""
    decode_seconds: float


def point_key(fingerprint: str, identity: str) -> str:
    """16 hexadecimal digits for what `identity` spells, done to the subject of `fingerprint`."""
    return hashlib.sha256(f"{fingerprint} {identity}".encode()).hexdigest()[:16]


class PointBook:
    """The points of one subject by key, in a file of JSON lines; of two lines with one key the later holds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.points: dict[str, Point] = {}
        if path.exists():
            end_last_line(path)
            for record in read_events(path):
                values = {name: record[name] for name in Point._fields if name in record}
                if len(values) == len(Point._fields) and "key" in record:
                    self.points[record["key"]] = Point(**values)

    def get(self, key: str) -> Point | None:
        """The point, if it has been measured."""
        return self.points.get(key)

    def add(self, key: str, point: Point) -> None:
        """Keep `point`. Raises `GolfError` when it cannot be written."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        append(self.path, json.dumps({"key": key, **point._asdict()}) + "\n")
        self.points[key] = point
