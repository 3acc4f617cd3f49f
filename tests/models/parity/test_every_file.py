"""Every golden file against our own numbers: all of its outputs agree with the original's, and none is missing."""

from pathlib import Path

import pytest

from models.parity.check import check
from tests.models.parity.golden_files import FILES, INPUTS, load

OUTPUTS = {
    "delta_iris_crafter": 614,
    "dreamerv2": 299,
    "iris_atari": 504,
    "jowa_c51_cql_q1": 918,
    "jowa_combo_imagined": 942,
    "rem_options": 349,
    "simulus_atari": 322,
    "simulus_options": 414,
    "thesis_gpt2": 669,
    "thesis_ncp_multi": 605,
    "thesis_ncp_single": 593,
    "thesis_vq_losses": 1412,
}
# Several seconds each; of their families a quicker file is checked every time.
LONG = {"jowa_c51_cql_q1", "thesis_ncp_multi", "thesis_ncp_single", "thesis_vq_losses"}
TOLD_TOO = {"delta_iris_crafter": ("meta/optimizer",)}  # outputs among the inputs' names


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=[pytest.mark.slow] if path.stem in LONG else [], id=path.stem) for path in FILES],
)
def test_every_output_agrees_with_the_original(path: Path) -> None:
    arrays, too = load(path), TOLD_TOO.get(path.stem, ())
    checks = check(arrays)
    assert [one for one in checks if not one.ok] == []
    assert [one.name for one in checks] == [name for name in arrays if name in too or not name.startswith(INPUTS)]
    assert len(checks) == OUTPUTS[path.stem]
