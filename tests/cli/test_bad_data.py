"""Data that is missing, damaged or does not fit: refused before anything is spent, and left as it was."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import sentencepiece
from cli.conftest import Golf, assert_helpful, contents, small
from tiny import tiny_documents

from paramgolf.data.tokenizers import train_sentencepiece


def test_missing_data(golf: Golf) -> None:
    said = golf("run demo --data nowhere", *small())
    assert_helpful(said, 2, "nowhere")
    assert not Path("runs").exists()


def test_a_folder_without_data(golf: Golf) -> None:
    Path("empty").mkdir()
    assert_helpful(golf("run demo --data empty", *small()), 1, "empty")
    Path("empty/picture.png").write_bytes(b"\x89PNG")
    assert_helpful(golf("run demo --data empty", *small()), 1, "empty")
    assert not Path("runs").exists()


def test_a_preset_whose_data_has_to_be_fetched(golf: Golf) -> None:
    said = golf("run baseline")
    assert_helpful(said, 1, "paramgolf data fetch sp1024")
    assert not Path("runs").exists()


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda good: good[:-2],
    "header only": lambda good: good[:1024],
    "zero bytes": lambda good: b"",
    "longer": lambda good: good + b"\0\0",
    "foreign": lambda good: b"\x89PNG" + good[4:],
    "other version": lambda good: good[:4] + b"\x09" + good[5:],
    "ids too large": lambda good: good[:2000] + b"\xff\xff" + good[2002:],
}


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_shard(golf: Golf, prepared_folder: Path, split: str, damage: str) -> None:
    (shard,) = prepared_folder.glob(f"datasets/*/*_{split}_000000.bin")
    shard.write_bytes(DAMAGES[damage](shard.read_bytes()))
    before = contents(prepared_folder)
    checked = golf("data check", prepared_folder)
    assert checked.code == 1
    assert shard.name in checked.out
    if split == "train" and damage == "ids too large":
        return  # a run meets it when it comes to it, see below; the check reads everything
    said = golf("run demo", *small(), "--data", prepared_folder)
    assert_helpful(said, 1, shard.name)
    assert contents(prepared_folder) == before
    assert not list(Path().glob("runs/*/result.json"))


def test_training_ids_that_the_vocabulary_does_not_have(golf: Golf, prepared_folder: Path) -> None:
    (shard,) = prepared_folder.glob("datasets/*/*_train_000000.bin")
    good = shard.read_bytes()
    shard.write_bytes(good[:1024] + b"\xff\xff".join(good[i : i + 30] for i in range(1024, len(good), 32)))
    assert shard.stat().st_size == len(good)
    said = golf("run demo", *small(), "--data", prepared_folder)
    assert_helpful(said, 1, "65,535", "paramgolf data check")
    assert not list(Path().glob("runs/*/artifact.pgolf"))


def test_a_vocabulary_that_is_not_the_models(golf: Golf, prepared_folder: Path) -> None:
    said = golf("run demo", *small("model.vocab=1024"), "--data", prepared_folder)
    assert_helpful(said, 2, "1024", "260", "--set model.vocab=260")
    assert not Path("runs").exists()


def test_a_tokenizer_that_did_not_make_the_shards(golf: Golf, texts_folder: Path) -> None:
    model = train_sentencepiece(tiny_documents(300, 1), 300, Path("a.model"))
    assert golf(f"data prepare {texts_folder} --variant {model} --out sp").code == 0
    options = [*small("data.variant=sp300 model.vocab=300"), "--data", "sp"]
    assert golf("run demo", *options).code == 0
    (inside,) = Path("sp/tokenizers").iterdir()
    train_sentencepiece(tiny_documents(300, 7), 290, inside)
    assert_helpful(golf("run demo", *options), 1, "290", "300")
    assert golf("data check sp").code == 1
    train_sentencepiece(tiny_documents(300, 7), 300, inside)
    assert_helpful(golf("run demo", *options), 1, "fingerprint", "next: paramgolf data check sp")
    assert golf("data check sp").code == 1


def test_a_tokenizer_without_the_space_piece(golf: Golf, texts_folder: Path) -> None:
    texts = ["".join(text.split()) for text in tiny_documents(300, 1)]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_prefix="spaceless",
        model_type="bpe",
        vocab_size=300,
        byte_fallback=True,
        add_dummy_prefix=False,
        hard_vocab_limit=False,
        pad_id=0,
        bos_id=1,
        eos_id=2,
        unk_id=3,
        minloglevel=3,
    )
    said = golf("run demo", *small("data.variant=spaceless.model model.vocab=300"), "--data", texts_folder)
    assert_helpful(said, 1, "897", "spaceless.model has no")
    assert not Path("runs").exists()


def test_less_data_than_a_batch(golf: Golf) -> None:
    Path("few").mkdir()
    lines = [json.dumps({"text": text}) for text in tiny_documents(3, 1)]
    Path("few/texts.jsonl").write_text("\n".join(lines))
    said = golf("run demo", *small("train.batch_tokens=4096 train.device_tokens=4096"), "--data", "few")
    assert_helpful(said, 1, "token")


def test_check_of_sound_data(golf: Golf, prepared_folder: Path) -> None:
    said = golf("data check", prepared_folder, "--disjoint", "--hashes")
    assert (said.code, said.err) == (0, "")
    assert "nothing is wrong" in said.out
    assert json.loads(golf("data check --json", prepared_folder).out) == []
