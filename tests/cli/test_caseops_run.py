"""A run on text with the case transform: every stage, and the bytes of the original text."""

import json
from pathlib import Path

from conftest import Golf, only_run, small

VARIANT = "sp320_lossless_caps_caseops_v1_reserved"


def test_a_run_scores_the_bytes_of_the_original_text(golf: Golf, texts_folder: Path) -> None:
    assert golf(f"data prepare {texts_folder} --variant {VARIANT} --out data").code == 0
    assert golf("data check data --disjoint --hashes").out == "data: nothing is wrong\n"
    said = golf("run demo --data data", *small(f"data.variant={VARIANT} model.vocab=320"))
    assert said.code == 0, said
    result = json.loads((only_run() / "result.json").read_text())
    texts = [json.loads(line)["text"] for line in (texts_folder / "val.jsonl").read_text().splitlines()]
    # Line breaks become spaces; nothing else of these texts is changed by normalization.
    assert result["val_bytes"] == sum(len(" ".join(text.split()).encode()) for text in texts)
    assert result["dataset"].endswith(VARIANT)
    assert golf("score", only_run()).code == 0
    (sidecar,) = Path("data").rglob("*_val_bytes_*.bin")
    sidecar.unlink()
    said = golf("score", only_run())
    assert said.code == 1
    assert "no byte sidecars" in said.err
