"""Reading `submission.json` in every shape, and any other JSON."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_entries import first_form, later_form

from paramgolf.bundle.claim import read_claim
from paramgolf.bundle.lint_claim import claim_findings
from paramgolf.contest import Contest
from paramgolf.errors import DataError


def test_the_first_form() -> None:
    claim = read_claim(json.dumps(first_form()))
    assert (claim.author, claim.val_loss, claim.total_bytes, claim.code_bytes) == ("A. Golfer", 2.8, 15_900_000, 50_000)
    assert claim.seeds == claim.missing == claim.oddities == ()


def test_the_later_form() -> None:
    claim = read_claim(json.dumps(later_form()).encode())
    assert [(seed.seed, seed.val_loss, seed.steps) for seed in claim.seeds] == [
        (42, 2.801, 4900),
        (0, 2.8034, 4900),
        (1234, 2.7986, 4902),
    ]
    assert (claim.seeds[0].total_bytes, claim.seeds[0].train_seconds, claim.seeds[0].eval_seconds) == (
        15_900_042,
        596.5,
        410.25,
    )


def test_other_shapes_of_seeds() -> None:
    results = {"val_bpb": "1.08", "bytes_total": 15_993_346, "train_time_ms": 588_052, "ttt_time_ms": 341_841}
    for seeds in (
        {"seeds": {"7": results}},
        {"seeds": [{"seed": 7, **results}]},
        {"seed_results": {"seed_7": results}},
    ):
        claim = read_claim(json.dumps({**first_form(), **seeds}))
        (seed,) = claim.seeds
        assert (seed.seed, seed.val_bpb, seed.train_seconds, seed.eval_seconds) == (7, 1.08, 588.052, 341.841)
        assert claim.oddities == ("seed 7: val_bpb is '1.08', a number is wanted",)
    assert [seed.seed for seed in read_claim(json.dumps(first_form(seeds=[1, 2]))).seeds] == [1, 2]
    claim = read_claim(json.dumps({"mean_bpb": 1.1, "mean_val_loss_nats": 2.8, "code_bytes": 5}))
    assert (claim.val_bpb, claim.val_loss, claim.code_bytes) == (1.1, 2.8, 5)
    assert claim.missing == ("author", "github_id", "name", "blurb", "date", "bytes_total")


def test_bits_per_byte_in_the_place_of_the_loss() -> None:
    values = first_form(val_loss=1.1428)
    del values["val_bpb"]
    claim = read_claim(json.dumps(values))
    assert (claim.val_bpb, claim.val_loss) == (1.1428, None)
    assert "val_bpb is missing" in claim.oddities[0]


def test_runs_that_do_not_count() -> None:
    more = {"disclosure": {"all_seeds": [42, 0, 1234, 7, 9999], "all_val_bpb_by_seed": {"7": 1.1}}}
    assert read_claim(json.dumps(later_form(**more))).other_seeds == (7, 9999)
    assert read_claim(json.dumps(later_form())).other_seeds == ()


@pytest.mark.parametrize(
    "text", [b"", b"[1]", b"{", b"\xff\xfe", b'"x"', b"[" * 100_000, b'{"a": ' + b"9" * 9999 + b"}"]
)
def test_what_is_no_claim(text: bytes) -> None:
    with pytest.raises(DataError, match=r"submission\.json"):
        read_claim(text)


keys = st.sampled_from(
    [
        *later_form(),
        *later_form()["seed_results"]["42"],
        "42",
        "seed",
        "all_seeds",
        "bytes_model_int6",
        "val_tokens",
        "val_bytes",
    ]
)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([2.8, 1.08, 15_900_000, "2026-04-01", 10**400, "1e999", -1, "seed_42"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=12,
)


@given(st.dictionaries(keys, values, max_size=8), st.booleans())
def test_no_json_is_too_odd(changes: dict, whole: bool) -> None:
    claim = read_claim(json.dumps({**(later_form() if whole else {}), **changes}))
    for finding in claim_findings(claim, "submission.json", Contest()):
        assert finding.cause
        assert finding.evidence
        assert finding.rule
