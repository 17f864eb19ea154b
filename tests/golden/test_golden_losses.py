import json
import math

import pytest
from golden_losses import FILE, first_losses

from paramgolf.presets import PRESETS, preset

GOLDEN = json.loads(FILE.read_text())
ALWAYS = {"demo", "baseline", "pr414", "pr1218", "pr1493", "pr1855", "pr2014", "ternary"}
"""One of every kind; the others take half a minute together."""
EVERY = [pytest.param(name, marks=() if name in ALWAYS else pytest.mark.nightly) for name in PRESETS]


@pytest.mark.parametrize("name", EVERY)
def test_the_first_losses_of_a_preset_do_not_move(name: str):
    """After a change that is meant to move them: `python tests/golden/golden_losses.py`, and say so in the commit."""
    losses = first_losses(name)
    assert losses == pytest.approx(GOLDEN[name], rel=1e-4)
    assert losses[0] == pytest.approx(math.log(preset(name).model.vocab), rel=0.01)
    assert losses[-1] != losses[0]


def test_no_preset_is_left_over():
    assert GOLDEN.keys() == PRESETS.keys()
