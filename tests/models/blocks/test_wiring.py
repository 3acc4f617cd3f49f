"""The draws of a neural circuit's wiring: those of `ncps` 1.0.1, whose masks were read off or stand in golden files."""

import numpy as np
import pytest

from models.blocks.wiring import auto_ncp, layer_sizes
from tests.fakes import ROOT


def test_small_wiring_is_the_recorded_one() -> None:
    wiring = auto_ncp(inputs=5, units=16, outputs=4)
    rows = ["".join(map(str, row.astype(int))) for row in wiring.inter_IN]
    assert rows == ["00011101", "01110010", "01001101", "11100100", "10110100"]
    # Non-zeros with each layer's dense recurrent part.
    recurrent = [mask.shape[1] ** 2 + int(mask.sum()) for mask in wiring.masks]
    assert recurrent == [84, 32, 24]
    assert [int(row.sum()) for row in wiring.command_NC] == [2] * 8  # fan-out of inter neurons
    assert [int(column.sum()) for column in wiring.motor_CM.T] == [2] * 4  # fan-in of motor neurons


@pytest.mark.parametrize("variant, inputs", [("ncp_single", 68), ("ncp_multi", 24)])
def test_masks_of_golden_files(variant: str, inputs: int) -> None:
    with np.load(ROOT / f"tests/golden/thesis_{variant}.npz") as golden:
        units = {"ncp_single": 112, "ncp_multi": 60}[variant]
        wiring = auto_ncp(inputs, units, inputs)
        for block in (0, 1):
            for layer, mask in enumerate(wiring.masks):
                recorded = golden[f"weights/world_model/ncp_layers.{block}.ncp.rnn_cell.layer_{layer}.sparsity_mask"]
                np.testing.assert_array_equal(recorded[:, : mask.shape[0]], mask.T)
                assert (recorded[:, mask.shape[0] :] == 1).all()


def test_every_neuron_is_reached_however_sparse() -> None:
    wiring = auto_ncp(inputs=3, units=40, outputs=5, sparsity=1.0, seed=4)
    assert wiring.inter_IN.any(0).all()  # each inter neuron has an input
    assert wiring.command_NC.any(0).all()
    assert wiring.motor_CM.any(1).all()  # each command neuron has a motor neuron to tell
    assert wiring.motor_CM.any(0).all()


def test_seed_decides_and_masks_cannot_be_changed() -> None:
    first, same, other = auto_ncp(5, 20, 6, seed=1), auto_ncp(5, 20, 6, seed=1), auto_ncp(5, 20, 6, seed=2)
    assert first is same
    assert (first.inter_IN != other.inter_IN).any()
    with pytest.raises(ValueError, match="read-only"):
        first.inter_IN[0, 0] = True


def test_default_sizes_of_the_thesis() -> None:
    assert layer_sizes(3264, 2176) == (653, 435, 2176)
    assert layer_sizes(512, 256) == (154, 102, 256)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ((5, 6, 4), "6 units cannot hold 4 outputs: give at least 7 units"),
        ((5, 16, 0), "16 units cannot hold 0 outputs"),
        ((0, 16, 4), "0 inputs at sparsity 0.5 are no wiring"),
        ((5, 16, 4, 0.0), "5 inputs at sparsity 0.0 are no wiring"),
        ((5, 16, 4, float("nan")), "5 inputs at sparsity nan are no wiring"),
    ],
)
def test_impossible_wirings_say_what_would_do(arguments: tuple, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        auto_ncp(*arguments)
