import pytest
from golden_set import CODERS, DIGEST, golden_stored

from paramgolf.artifact.container import pack
from paramgolf.artifact.ledger import LedgerRow, artifact_ledger, check_budget
from paramgolf.artifact.zlib_coder import ZlibCoder
from paramgolf.errors import ArtifactError, OverBytes


class OwnCoder(ZlibCoder):
    """One that no registry knows."""

    identity = 251


@pytest.mark.parametrize("coder", CODERS)
def test_rows_add_up_to_the_file(coder):
    stored, expected = golden_stored()
    data = pack(stored, expected, coder=CODERS[coder], digest=DIGEST)
    rows = artifact_ledger(data)
    assert sum(row.size for row in rows) == len(data)
    raw = sum(array.nbytes for weight in stored.values() for term in weight.terms for array in term.arrays())
    assert sum(row.raw_size for row in rows[:-1]) == raw
    assert rows[-1].group == "overhead"
    assert ("mlp", "codes") in {(row.group, row.kind) for row in rows}
    wanted = "-" if coder == "raw" else type(CODERS[coder]).__name__
    assert next(row for row in rows if row.kind == "codes").coder == wanted


def test_a_coder_of_ones_own_has_a_name_in_the_ledger():
    stored, expected = golden_stored()
    data = pack(stored, expected, coder=OwnCoder(), digest=DIGEST)
    assert "OwnCoder" in {row.coder for row in artifact_ledger(data, (OwnCoder(),))}
    with pytest.raises(ArtifactError, match="coder 251"):
        artifact_ledger(data)


def test_a_damaged_header_has_no_ledger():
    with pytest.raises(ArtifactError):
        artifact_ledger(b"PGLF\x01")


ROWS = [LedgerRow("mlp", "codes", "ZlibCoder", 700, 1000), LedgerRow("embed", "codes", "ZlibCoder", 200, 300)]


def test_within_the_budget():
    check_budget(1000, 100, 1000, ROWS)


def test_over_the_budget_says_by_how_much_and_what_weighs_most():
    with pytest.raises(OverBytes) as caught:
        check_budget(1_000, 100, 999, ROWS)
    assert caught.value.exit_code == 3
    assert "1 over the budget of 999" in caught.value.cause
    assert caught.value.evidence == "heaviest: mlp codes 700 (70.0%), embed codes 200 (20.0%), code 100 (10.0%)"
