"""Preparation: framing, order, determinism, what is dropped, and that a killed one ends in the same bytes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from paramgolf.batch import BOS
from paramgolf.data.corpora import Corpus, open_corpus
from paramgolf.data.encode_pass import EncodePass
from paramgolf.data.encoding import Encoded, ordered_map
from paramgolf.data.journal import JOURNAL_NAME, Journal, read_journal
from paramgolf.data.manifest import read_manifest
from paramgolf.data.prepare import prepare
from paramgolf.data.preparing import PrepareOptions, Preparing
from paramgolf.data.shards import ShardWriter, find_shards, open_shard
from paramgolf.data.tokenizers import ByteTokenizer, SentencePieceTokenizer, load_tokenizer
from paramgolf.data.variants import parse_variant
from paramgolf.errors import DataError, UsageError

OPTIONS = PrepareOptions(shard_tokens=5_000, val_documents=20, workers=2)


def sample_texts() -> list[str]:
    """300 documents of very different lengths, some of them special."""
    words = [f"word{number * 7919 % 997}" for number in range(4_000)]
    texts = [" ".join(words[number : number + 1 + number**2 % 211]) for number in range(300)]
    texts[3] = "  "
    texts[50] = "  \0 "
    texts[60] = texts[5]
    texts[61] = f"  {texts[6]}\0"
    texts[70] = "broken \ud800 half"
    texts[80] = "Größe \U0001f600 " * 2_000
    return texts


def write_corpus(path: Path, texts: list[str]) -> Corpus:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return open_corpus(path)


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return write_corpus(tmp_path / "sample.jsonl", sample_texts())


def files(out: Path) -> dict[str, bytes]:
    """Everything prepared, but for the lock."""
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name != ".prepare.lock"
    }


def stream(out: Path, name: str, split: str) -> np.ndarray:
    return np.concatenate([open_shard(path).map() for path in find_shards(out / "datasets" / name, split)])


def documents_of(ids: np.ndarray) -> list[str]:
    assert ids[0] == BOS
    return [ByteTokenizer().decode(part) for part in np.split(ids, np.flatnonzero(ids == BOS)[1:])]


def test_documents_are_framed_split_and_in_order(tmp_path: Path, corpus: Corpus) -> None:
    manifest = prepare(corpus, tmp_path / "out", variant="byte260", options=OPTIONS)
    texts = [text.replace("\0", " ").replace("\ud800", "\ufffd").strip() for text in sample_texts()]
    val = [text for text in texts[:20] if text]
    train = [text for text in texts[20:] if text and text not in val]
    assert documents_of(stream(tmp_path / "out", "sample_byte260", "val")) == val
    assert documents_of(stream(tmp_path / "out", "sample_byte260", "train")) == train
    stats = manifest.datasets[0].stats
    assert (stats.docs_val, stats.docs_train, stats.docs_empty) == (19, len(train), 2)
    assert stats.docs_duplicate == len(texts) - 19 - 2 - len(train) >= 2
    assert stats.docs_repaired == 1
    assert stats.text_bytes == sum(len(text.encode()) for text in val + train)
    assert stats.tokens_total == stats.text_bytes + len(val) + len(train)
    shards = [open_shard(path).tokens for path in find_shards(tmp_path / "out/datasets/sample_byte260", "train")]
    assert set(shards[:-1]) == {5_000}
    assert stats.files_train == len(shards) > 5
    assert manifest == read_manifest(tmp_path / "out" / "manifest.json")


def test_the_official_framing_of_sentencepiece(tmp_path: Path, corpus: Corpus) -> None:
    manifest = prepare(corpus, tmp_path / "out", variant="sp300", options=OPTIONS)
    entry = manifest.tokenizers[0]
    assert (entry.model_path, entry.vocab_size) == ("tokenizers/sample_300_bpe.model", 300)
    tokenizer = load_tokenizer(tmp_path / "out" / "tokenizers" / "sample_300_bpe.model")
    assert entry.fingerprint == tokenizer.fingerprint
    assert isinstance(tokenizer, SentencePieceTokenizer)
    expected = [BOS]
    for text in sample_texts()[:20]:
        if text.strip():
            expected += [*tokenizer.processor.encode(text), BOS]
    assert stream(tmp_path / "out", "sample_sp300", "val").tolist() == expected[:-1]


@pytest.mark.parametrize("variant", ["byte260", "sp300"])
def test_the_bytes_do_not_depend_on_the_workers(tmp_path: Path, corpus: Corpus, variant: str) -> None:
    outs = [tmp_path / str(workers) for workers in (1, 3, 8)]
    for out, workers in zip(outs, (1, 3, 8), strict=True):
        prepare(corpus, out, variant=variant, options=replace(OPTIONS, workers=workers))
    assert files(outs[0]) == files(outs[1]) == files(outs[2])


def test_ordered_map_keeps_order_and_stays_bounded() -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for number in range(50):
            taken += 1
            yield number

    for place, result in enumerate(ordered_map(lambda number: number * number, items(), 2)):
        assert result == place * place
        assert taken <= place + 6
    assert taken == 50


def test_a_duplicate_can_be_an_error(tmp_path: Path, corpus: Corpus) -> None:
    options = replace(OPTIONS, duplicates="error")
    with pytest.raises(DataError, match="equals a validation document") as caught:
        prepare(corpus, tmp_path / "out", variant="byte260", options=options)
    assert "document 60 of sample" in str(caught.value)
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_duplicates_can_be_kept(tmp_path: Path, corpus: Corpus) -> None:
    dropped = prepare(corpus, tmp_path / "a", variant="byte260", options=OPTIONS).datasets[0].stats
    kept = prepare(corpus, tmp_path / "b", variant="byte260", options=replace(OPTIONS, duplicates="keep"))
    assert dropped.docs_duplicate
    assert dropped.docs_train is not None
    assert kept.datasets[0].stats.docs_train == dropped.docs_train + dropped.docs_duplicate
    assert kept.datasets[0].stats.docs_duplicate == dropped.docs_duplicate


@pytest.mark.parametrize(("texts", "which"), [(["a", "b"], "training"), (["", "b"], "validation")])
def test_an_empty_split_is_refused(tmp_path: Path, texts: list[str], which: str) -> None:
    corpus = write_corpus(tmp_path / "tiny.jsonl", texts)
    options = replace(OPTIONS, val_documents=2 if which == "training" else 1)
    with pytest.raises(DataError, match=f"no documents for {which}"):
        prepare(corpus, tmp_path / "out", variant="byte260", options=options)


def test_limit_counts_training_documents(tmp_path: Path, corpus: Corpus) -> None:
    manifest = prepare(corpus, tmp_path / "out", variant="byte260", options=replace(OPTIONS, limit=25))
    assert (manifest.datasets[0].stats.docs_val, manifest.datasets[0].stats.docs_train) == (19, 25)


def test_progress_adds_up(tmp_path: Path, corpus: Corpus) -> None:
    seen: list[Preparing] = []
    manifest = prepare(corpus, tmp_path / "out", variant="byte260", options=OPTIONS, progress=seen.append)
    assert [event.phase for event in seen] == ["tokenizer", "encode", "verify"]
    last = seen[1]
    assert (last.tokens, last.share, last.seconds_left) == (manifest.datasets[0].stats.tokens_total, 1.0, 0.0)
    assert last.tokens_per_second > 0


def test_a_complete_dataset_is_not_made_again(tmp_path: Path, corpus: Corpus) -> None:
    out = tmp_path / "out"
    first = prepare(corpus, out, variant="sp300", options=OPTIONS)
    seen: list[Preparing] = []
    assert prepare(corpus, out, variant="sp300", options=OPTIONS, progress=seen.append) == first
    assert seen == []
    # A lost shard is noticed and everything made again.
    before = files(out)
    next(iter(find_shards(out / "datasets/sample_sp300", "train"))).unlink()
    with pytest.raises(DataError, match="made from something else"):
        prepare(corpus, out, variant="sp300", options=OPTIONS)
    prepare(corpus, out, variant="sp300", options=replace(OPTIONS, overwrite=True))
    assert files(out) == before


def test_datasets_live_side_by_side_but_are_not_overwritten(tmp_path: Path, corpus: Corpus) -> None:
    out = tmp_path / "out"
    prepare(corpus, out, variant="byte260", options=OPTIONS)
    manifest = prepare(corpus, out, variant="sp300", options=OPTIONS)
    assert [entry.name for entry in manifest.datasets] == ["sample_byte260", "sample_sp300"]
    before = files(out)
    with pytest.raises(DataError, match="made from something else"):
        prepare(corpus, out, variant="byte260", options=replace(OPTIONS, shard_tokens=4_000))
    assert files(out) == before
    prepare(corpus, out, variant="byte260", options=replace(OPTIONS, shard_tokens=40_000, overwrite=True))
    assert len(find_shards(out / "datasets" / "sample_byte260", "train")) == 7


def test_a_given_model_is_copied(tmp_path: Path, corpus: Corpus) -> None:
    prepare(corpus, tmp_path / "a", variant="sp300", options=OPTIONS)
    model = tmp_path / "a" / "tokenizers" / "sample_300_bpe.model"
    prepare(corpus, tmp_path / "b", variant=f"sp300={model}", options=OPTIONS)
    assert (tmp_path / "b" / "tokenizers" / model.name).read_bytes() == model.read_bytes()
    name = "datasets/sample_sp300/sample_val_000000.bin"
    assert (tmp_path / "b" / name).read_bytes() == (tmp_path / "a" / name).read_bytes()


def test_variants(tmp_path: Path, corpus: Corpus) -> None:
    prepare(corpus, tmp_path, variant="sp300", options=OPTIONS)
    model = tmp_path / "tokenizers" / "sample_300_bpe.model"
    assert parse_variant("byte260")[:2] == ("byte260", 260)
    assert parse_variant("sp1024")[:2] == ("sp1024", 1024)
    assert parse_variant(str(model)) == parse_variant(f"300={model}") == parse_variant(f"sp300={model}")
    with pytest.raises(DataError, match="vocabulary"):
        parse_variant(f"sp1024={model}")
    for wrong in ("sp", "sp4", "sp70000", "bpe1024", "byte256"):
        with pytest.raises(UsageError, match="not a tokenizer variant"):
            parse_variant(wrong)


KILLER = textwrap.dedent(
    """
    import os, signal, sys
    from pathlib import Path
    from paramgolf.data.corpora import open_corpus
    from paramgolf.data.prepare import prepare
    from paramgolf.data.preparing import PrepareOptions
    from paramgolf.data.shards import ShardWriter

    source, root, variant, *moments = sys.argv[1:]
    corpus = open_corpus(source)
    options = PrepareOptions(shard_tokens=5_000, val_documents=20, workers=2)
    replace, write = os.replace, ShardWriter.write


    def dying_at(moment):
        left = moment

        def count():
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        def dying_replace(*names):
            count()
            replace(*names)
            count()

        def dying_write(self, ids):
            half = len(ids) // 2
            write(self, ids[:half])
            if self.file:
                self.file.flush()
            count()
            write(self, ids[half:])

        os.replace, ShardWriter.write = dying_replace, dying_write


    for moment in map(int, moments):
        child = os.fork()
        if child == 0:
            dying_at(moment)
            prepare(corpus, Path(root) / str(moment), variant=variant, options=options)
            os._exit(0)
        print(moment, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    """
)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills processes of its own making")
def test_killed_at_any_moment_it_ends_in_the_same_bytes(
    tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paramgolf.data.encoding.BATCH_DOCUMENTS", 16)
    prepare(corpus, tmp_path / "whole", variant="sp300", options=OPTIONS)
    whole = files(tmp_path / "whole")
    script = KILLER.replace(
        "replace, write =", "import paramgolf.data.encoding as e; e.BATCH_DOCUMENTS = 16\nreplace, write ="
    )
    moments = [str(moment) for moment in (*range(1, 12), 17, 24, 31, 38, 45, 52, 59, 500)]
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, corpus.sources[0].path, tmp_path / "killed", "sp300", *moments],
        check=True,
        capture_output=True,
        text=True,
    )
    exits = [int(line.split()[1]) for line in ran.stdout.splitlines()]
    assert exits == [-signal.SIGKILL] * (len(moments) - 1) + [0]
    continued = 0
    for moment in moments:
        out = tmp_path / "killed" / moment
        journal = out / "datasets" / "sample_sp300" / JOURNAL_NAME
        continued += journal.exists() and json.loads(journal.read_text())["shards"] > 0
        prepare(corpus, out, variant="sp300", options=OPTIONS)
        assert files(out) == whole, f"killed at moment {moment}"
    assert continued > 5, "some of them had complete shards to keep"


def test_a_killed_one_continues_instead_of_starting_over(tmp_path: Path, corpus: Corpus) -> None:
    out = tmp_path / "out"
    prepare(corpus, out, variant="byte260", options=OPTIONS)
    whole = files(out)
    folder = out / "datasets" / "sample_byte260"
    shards = find_shards(folder, "train")
    ids = stream(out, "sample_byte260", "train")
    # As after a kill in the middle of the fifth shard.
    plan = read_manifest(out / "manifest.json").datasets[0].plan
    (out / "manifest.json").unlink()
    for path in shards[4:]:
        path.unlink()
    starts = np.flatnonzero(ids == BOS)
    index = int(np.searchsorted(starts, 20_000, side="right")) - 1
    texts = [text.replace("\0", " ").strip() for text in sample_texts()]
    kept = [place for place, text in enumerate(texts) if place >= 20 and text and text not in texts[:20]]
    state = {"plan": plan, "tokenizer": ByteTokenizer.fingerprint, "shards": 4}
    state |= {"place": kept[index], "offset": 20_000 - int(starts[index])}
    (folder / JOURNAL_NAME).write_text(json.dumps(state))
    times = {path: path.stat().st_mtime_ns for path in shards[:4]}
    seen: list[Preparing] = []
    prepare(corpus, out, variant="byte260", options=OPTIONS, progress=seen.append)
    assert files(out) == whole
    assert {path: path.stat().st_mtime_ns for path in shards[:4]} == times
    assert seen[-2].tokens == len(ids) - 20_000 + len(stream(out, "sample_byte260", "val"))


def write_lots(folder: Path, corpus: Corpus, lots: list[list[Encoded]], journal: Journal) -> list[Journal]:
    """Write training documents from `journal` on; the journals on the way."""
    options = PrepareOptions(shard_tokens=12)
    writing = EncodePass(folder, corpus, options, journal, lambda _: None)
    journals: list[Journal] = []
    with ShardWriter(folder, "x", "train", shard_tokens=12, first=journal.shards) as writer:
        for lot in lots:
            skipped = [document._replace(ids=document.ids[:0]) for document in lot if document.place < journal.place]
            writing.write_train(writer, skipped + [document for document in lot if document.place >= journal.place])
            known = read_journal(folder, "plan", 12)
            if known.shards > journal.shards and known not in journals:
                journals.append(known)
    return journals


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.integers(1, 30), max_size=4), max_size=5))
@example([[6, 6], [5], [7, 12], [30, 1], [5, 12]])
def test_every_journal_leads_to_the_same_shards_and_journals(
    tmp_path: Path, corpus: Corpus, lengths: list[list[int]]
) -> None:
    place, lots = 0, []
    for lot in lengths:
        ids = [np.arange(length, dtype=np.uint16) + 100 * (place + index) for index, length in enumerate(lot)]
        lots.append([Encoded(place + index, "train", each, b"", 0, False) for index, each in enumerate(ids)])
        place += len(lot)
    with tempfile.TemporaryDirectory(dir=tmp_path) as whole:
        journals = write_lots(Path(whole), corpus, lots, Journal("plan"))
        expected = {path.name: path.read_bytes() for path in Path(whole).glob("*.bin")}
        for number, journal in enumerate(journals):
            with tempfile.TemporaryDirectory(dir=tmp_path) as again:
                for path in find_shards(Path(whole), "train")[: journal.shards]:
                    shutil.copy(path, again)
                # In one lot: nothing may depend on where lots end.
                later = write_lots(Path(again), corpus, [[document for lot in lots for document in lot]], journal)
                assert later == journals[number + 1 :][-1:]
                assert {path.name: path.read_bytes() for path in Path(again).glob("*.bin")} == expected


def test_a_journal_that_is_not_true_is_ignored(tmp_path: Path, corpus: Corpus) -> None:
    prepare(corpus, tmp_path / "whole", variant="byte260", options=OPTIONS)
    whole = files(tmp_path / "whole")
    plan = read_manifest(tmp_path / "whole" / "manifest.json").datasets[0].plan
    folder = tmp_path / "out" / "datasets" / "sample_byte260"
    folder.mkdir(parents=True)
    for content in ("{", "[]", '{"plan": 1, "x": 2}', json.dumps({"plan": plan, "shards": 7, "place": 90})):
        (tmp_path / "out" / "manifest.json").unlink(missing_ok=True)
        for path in folder.iterdir():
            path.unlink()
        (folder / JOURNAL_NAME).write_text(content)
        prepare(corpus, tmp_path / "out", variant="byte260", options=OPTIONS)
        assert files(tmp_path / "out") == whole
