"""Corpora: what is found, in which order, cut where, split how, refused why."""

import gzip
import io
import json
import lzma
import sys
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from paramgolf.data.corpora import Corpus, open_corpus, split_documents, validation_count
from paramgolf.data.documents import PROSE, PYTHON, clean_document, cut_pieces, document_hash
from paramgolf.errors import DataError, UsageError


def jsonl(texts: list[str]) -> bytes:
    return b"".join(json.dumps({"text": text, "source": "test"}).encode() + b"\n" for text in texts)


def texts_of(corpus: Corpus) -> list[str]:
    return [document.text for document in corpus.documents()]


def splits_of(corpus: Corpus, **options: int) -> list[str | None]:
    return [document.split for document in split_documents(corpus, validation_count(corpus, **options))]


@given(st.text(alphabet="ab \n\u00e9\U0001f600", max_size=400), st.integers(1, 60), st.sampled_from([PROSE, PYTHON]))
def test_pieces_join_to_the_text(text: str, limit: int, marks: tuple[tuple[str, ...], ...]) -> None:
    pieces = list(cut_pieces(io.StringIO(text, newline="").read, limit, marks))
    assert "".join(pieces) == text
    assert all(limit // 2 < len(piece) <= limit for piece in pieces[:-1])
    assert all(0 < len(piece) <= limit for piece in pieces[-1:])


def test_python_is_cut_at_definitions() -> None:
    body = "    pass\n" * 20
    source = f"import os\n\n\ndef one():\n{body}\n\n@cache\ndef two():\n{body}\n\nclass Three:\n{body}"
    pieces = list(cut_pieces(io.StringIO(source).read, 400, PYTHON))
    assert [piece.split("\n")[0] for piece in pieces] == ["import os", "@cache"]
    shorter = cut_pieces(io.StringIO(source).read, 250, PYTHON)
    assert [piece.strip()[:4] for piece in shorter] == ["impo", "@cac", "clas"]


def test_cleaning() -> None:
    assert clean_document("  a\0b\n") == ("a b", False)
    assert clean_document("x\udc80y") == ("x\ufffdy", True)
    assert clean_document("\ud83d\ude00") == ("\U0001f600", False)
    assert clean_document("kept \ufffd") == ("kept \ufffd", False)
    assert clean_document(" \0\n") == ("", False)


def test_hash_tells_texts_apart() -> None:
    assert len(document_hash("a")) == 8
    assert document_hash("a") != document_hash("b")


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz", ".zst"])
def test_json_lines_under_every_compression(tmp_path: Path, suffix: str) -> None:
    texts = ["first", "zweiter \u00dcbergang", "x" * 300_000, ""]
    # Two members each: files are often concatenated.
    halves = [jsonl(texts[:2]), jsonl(texts[2:])]
    compress = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress, ".zst": zstandard.ZstdCompressor().compress}
    path = tmp_path / f"docs.jsonl{suffix}"
    path.write_bytes(b"".join(compress[suffix](half) for half in halves))
    corpus = open_corpus(path)
    assert (corpus.name, texts_of(corpus)) == ("docs", texts)
    assert list(corpus.documents())[-1].position == corpus.size


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
def test_a_cut_file_is_refused_by_name(tmp_path: Path, suffix: str) -> None:
    content = jsonl([f"document {number} {number**7}" for number in range(5000)])
    compress = {".gz": gzip.compress, ".xz": lzma.compress, ".zst": zstandard.ZstdCompressor().compress}[suffix]
    path = tmp_path / f"docs.jsonl{suffix}"
    path.write_bytes(compress(content)[:-20])
    with pytest.raises(DataError, match=rf"docs\.jsonl\{suffix} is damaged or incomplete"):
        texts_of(open_corpus(path))


@pytest.mark.parametrize(
    ("line", "message"),
    [(b'{"text": "cut', "not JSON"), (b'{"body": "x", "id": 1}', "it has: body, id"), (b"[1]", "it has: list")],
)
def test_a_bad_line_is_named(tmp_path: Path, line: bytes, message: str) -> None:
    path = tmp_path / "docs.jsonl"
    path.write_bytes(jsonl(["good"]) + b"\n" + line + b"\n")
    with pytest.raises(DataError, match="line 3") as caught:
        texts_of(open_corpus(path))
    assert message in str(caught.value)


def test_parquet(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    texts = [f"row {number}" for number in range(3000)]
    parquet.write_table(
        arrow.table({"text": [*texts, None], "id": range(3001)}), tmp_path / "a.parquet", row_group_size=700
    )
    corpus = open_corpus(tmp_path / "a.parquet")
    assert texts_of(corpus) == [*texts, ""]
    with pytest.raises(DataError, match="no column 'content'") as caught:
        texts_of(open_corpus(tmp_path / "a.parquet", column="content"))
    assert "its columns: text, id" in str(caught.value)
    (tmp_path / "a.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(DataError, match="damaged"):
        texts_of(open_corpus(tmp_path / "a.parquet"))


def test_parquet_without_pyarrow_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.parquet").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"pip install 'paramgolf\[data\]'"):
        texts_of(open_corpus(tmp_path / "a.parquet"))


def test_a_folder_of_text(tmp_path: Path) -> None:
    for name in ["a.txt", "b.md", "deep/er/c.rst", "d.py", ".hidden.txt", ".git/e.txt", "image.png"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"text of {name}")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    (tmp_path / "bom.txt").write_bytes(b"\xef\xbb\xbfhello")
    documents = {document.source: clean_document(document.text) for document in open_corpus(tmp_path).documents()}
    assert sorted(documents) == ["a.txt", "b.md", "bom.txt", "d.py", "deep/er/c.rst", "latin.txt"]
    assert documents["latin.txt"] == ("caf\ufffd", True)
    assert documents["bom.txt"].text == "hello"
    assert texts_of(open_corpus(tmp_path)) == texts_of(open_corpus(str(tmp_path)))


def test_a_long_text_file_becomes_several_documents(tmp_path: Path) -> None:
    content = "\n\n".join(f"Paragraph {number}. " + "word " * 50 for number in range(2000))
    (tmp_path / "book.txt").write_text(content)
    texts = texts_of(open_corpus(tmp_path / "book.txt"))
    assert len(texts) > 5
    assert "".join(texts) == content
    assert all(text.startswith("Paragraph") for text in texts)


def test_records_win_over_the_readme_beside_them(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("about the data")
    (tmp_path / "part_1.jsonl").write_bytes(jsonl(["one"]))
    (tmp_path / "part_0.jsonl").write_bytes(jsonl(["zero"]))
    assert texts_of(open_corpus(tmp_path)) == ["zero", "one"]


@pytest.mark.parametrize("val", ["val_000.jsonl", "validation-00000.jsonl", "val/a.jsonl", "valid.jsonl"])
def test_names_declare_the_split(tmp_path: Path, val: str) -> None:
    (tmp_path / "val").mkdir()
    (tmp_path / val).write_bytes(jsonl(["held out"]))
    (tmp_path / "train_000.jsonl").write_bytes(jsonl(["learned"]))
    (tmp_path / "test.jsonl").write_bytes(jsonl(["never read"]))
    corpus = open_corpus(tmp_path)
    assert [(document.text, document.split) for document in corpus.documents()] == [
        ("held out", "val"),
        ("learned", "train"),
    ]
    with pytest.raises(UsageError, match="split of its own"):
        validation_count(corpus, val_documents=5)


def test_words_that_begin_with_val_declare_nothing(tmp_path: Path) -> None:
    for name in ["values.jsonl", "valley.jsonl", "train.jsonl"]:
        (tmp_path / name).write_bytes(jsonl([name]))
    assert not open_corpus(tmp_path).has_split


def test_the_first_documents_are_validation(tmp_path: Path) -> None:
    (tmp_path / "docs.jsonl").write_bytes(jsonl([str(number) for number in range(40)]))
    corpus = open_corpus(tmp_path / "docs.jsonl")
    assert splits_of(corpus) == ["val"] * 2 + ["train"] * 38
    assert splits_of(corpus, val_documents=7) == ["val"] * 7 + ["train"] * 33


def test_the_frozen_selection_is_called_fineweb(tmp_path: Path) -> None:
    (tmp_path / "docs_selected.jsonl").write_bytes(jsonl(["x"]))
    assert open_corpus(tmp_path / "docs_selected.jsonl").name == "fineweb"


@pytest.mark.parametrize(("name", "expected"), [("My Novel.txt", "my_novel"), ("my_val_set.txt", "myvalset")])
def test_corpus_names_cannot_be_mistaken_for_splits(tmp_path: Path, name: str, expected: str) -> None:
    (tmp_path / name).write_text("x")
    assert open_corpus(tmp_path / name).name == expected


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'stdlib'"):
        open_corpus("stdlb")
    (tmp_path / "picture.png").write_bytes(b"")
    with pytest.raises(DataError, match="holds no documents"):
        open_corpus(tmp_path)


def test_identity_follows_the_files(tmp_path: Path) -> None:
    path = tmp_path / "docs.jsonl"
    path.write_bytes(jsonl(["x"]))
    before = open_corpus(path).identity
    assert open_corpus(path).identity == before
    path.write_bytes(jsonl(["x", "y"]))
    assert open_corpus(path).identity != before


def test_the_standard_library() -> None:
    corpus = open_corpus("stdlib")
    names = [source.name for source in corpus.sources]
    assert {"argparse.py", "json/decoder.py"} <= set(names)
    assert not any(part in ("test", "tests", "site-packages") for name in names for part in name.split("/"))
    documents = list(corpus.documents())
    characters = sum(len(document.text) for document in documents)
    held_out = sum(len(document.text) for document in documents if document.split == "val")
    assert characters > 5_000_000
    assert 0.01 < held_out / characters < 0.1
    assert max(len(document.text) for document in documents) <= 8192
    splits = [document.split for document in documents]
    assert splits == sorted(splits, reverse=True), "validation first"
    assert any(document.source.startswith("pydoc_data/topics.py:") for document in documents)
    assert open_corpus("stdlib").sources == corpus.sources
