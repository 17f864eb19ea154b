"""The commands that make data, one after another."""

import json
from pathlib import Path

import pytest
from cli.conftest import Golf, assert_helpful, small
from data.hub_server import serve_hub
from tiny import tiny_documents


def test_prepare_tells_what_came_out(golf: Golf, texts_folder: Path) -> None:
    said = golf("data prepare --variant byte260 --out mine", texts_folder)
    assert said.code == 0
    (row,) = (line.split() for line in said.out.splitlines() if "_byte260" in line)
    assert row[1:3] == ["100", "14"]
    assert "prepare   100%  encoding 114 documents" in said.err
    again = golf("data prepare --variant byte260 --out mine", texts_folder)
    assert (again.code, again.out) == (0, said.out)
    other = golf("data prepare --variant byte260 --out mine --limit 50", texts_folder)
    assert_helpful(other, 1, "--overwrite")
    assert golf("data prepare --variant byte260 --out mine --limit 50 --overwrite", texts_folder).code == 0


def test_prepare_keeps_validation_out_of_training(golf: Golf, tmp_path: Path) -> None:
    texts = tiny_documents(30, 1)
    lines = [json.dumps({"text": text}) for text in [*texts, texts[2]]]
    Path("texts.jsonl").write_text("\n".join(lines))
    base = "data prepare texts.jsonl --variant byte260 --val-documents 5"
    assert golf(f"{base} --out strict --duplicates error").code == 1
    assert golf(f"{base} --out dropped").code == 0
    assert golf("data check dropped --disjoint").code == 0
    assert golf(f"{base} --out kept --duplicates keep").code == 0
    said = golf("data check kept --disjoint")
    assert said.code == 1
    assert "validation documents are in the training shards" in said.out


def test_retokenize_publish_fetch_and_run(golf: Golf) -> None:
    pytest.importorskip("huggingface_hub")
    lines = [json.dumps({"text": text}) for text in tiny_documents(114, 3)]
    Path("docs_selected.jsonl").write_text("\n".join(lines) + "\n")
    assert golf("data retokenize docs_selected.jsonl --variant byte260 --out export/datasets").code == 1
    command = "data retokenize docs_selected.jsonl --variant byte260 --out export/datasets --val-documents 14"
    assert golf(command).code == 0
    with serve_hub(golf=Path("export")) as hub:
        line = f"--repo test/golf --endpoint {hub.url} --cache cache --out data"
        said = golf(f"data fetch byte260 --train-shards 1 {line}")
        assert said.code == 0, said.err
        assert "fineweb10B_byte260" in said.out
        assert_helpful(golf(f"data fetch byte261 {line}"), 2, "byte260")
        assert golf(f"data fetch byte260 --train-shards 9 {line}").code == 2
    said = golf("run demo", *small("data.corpus=fineweb10B"))
    assert said.code == 0, said.err


def test_retokenize_without_documents(golf: Golf) -> None:
    said = golf("data retokenize nowhere.jsonl")
    assert said.code == 1
    assert "paramgolf data fetch" in said.err
