"""The thesis's golden files: what is wrong, on either side, is noticed; other variants are refused."""

import numpy as np
import pytest

from models.parity.thesis.config import thesis_config
from tests.models.parity.golden_files import (
    FILES,
    Arrays,
    Change,
    changed,
    failed,
    load,
    restated,
    untrained,
)

THESIS = {path.stem.removeprefix("thesis_"): path for path in FILES if path.stem.startswith("thesis")}


@pytest.fixture(scope="module")
def multi() -> Arrays:
    return load(THESIS["ncp_multi"])


@pytest.fixture
def quick(multi: Arrays, monkeypatch: pytest.MonkeyPatch) -> Arrays:
    """The file without what takes most of its time: training steps."""
    monkeypatch.setattr("models.parity.thesis.family.trained", lambda case, stages: {})
    return untrained(multi)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("world_model/hidden_state_after_token_16/1", marks=pytest.mark.slow),
        "env/state_after_reset/layer0",
        pytest.param("env_fixed_reset/logits_ends", marks=pytest.mark.slow),
    ],
)
def test_one_wrong_number_fails_its_entry_alone(quick: Arrays, name: str) -> None:
    wrong = np.array(quick[name])
    wrong.reshape(-1)[0] += 1e-3
    assert failed(quick | {name: wrong}) == {name}


@pytest.mark.slow
def test_the_mended_reset_is_not_the_originals(quick: Arrays) -> None:
    """Either's numbers under the other's name fail."""
    name = "env/state_after_reset/layer1"
    assert failed(quick | {name: quick["env_fixed_reset/state_after_reset/layer1"]}) == {name}


@pytest.mark.slow
def test_a_wiring_of_the_files_own_is_played(quick: Arrays) -> None:
    """The masks are weights of the file: without them everything behind the circuits is another."""
    mask = "weights/world_model/ncp_layers.0.ncp.rnn_cell.layer_2.sparsity_mask"
    assert "world_model/output_sequence" in failed(quick | {mask: np.ones_like(quick[mask])})


@pytest.mark.parametrize(
    ("variant", "change", "words"),
    [
        ("ncp_multi", lambda c: c["world_model"].update(ncp_units=20), "20 units cannot hold 24 outputs"),
        ("ncp_multi", lambda c: c["world_model"].update(blocks_pdrop=0.1), r"blocks_pdrop = 0\.1, where this project"),
        ("ncp_single", lambda c: c["world_model"].update(hidden_layers_output_dim=64), "where a step has 68 numbers"),
        ("ncp_single", lambda c: c["world_model"].pop("ncp_layer_norm"), "does not state 'ncp_layer_norm'"),
        (
            "gpt2",
            lambda c: c["tokenizer"]["critic"].update(input_size=9),
            "critic of 9 inputs, where codes",
        ),
        ("gpt2", lambda c: c["tokenizer"].update(critic_loss_weight=1), "critic_loss_weight = 1 beside a world model"),
        ("gpt2", lambda c: c.update(variant="gpt3"), "states variant 'gpt3', which is not known here"),
    ],
)
def test_what_is_stated_otherwise_is_refused(variant: str, change: Change, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        thesis_config(changed(load(THESIS[variant]), change))


@pytest.mark.slow
def test_another_weight_of_the_critic_is_noticed() -> None:
    arrays = load(THESIS["vq_losses"])
    kept = {name: array for name, array in arrays.items() if not name.startswith(("after_step", "grad/"))}
    found = failed(restated(kept, lambda config: config.update(critic_weights=[0, 0.25, 2.0])))
    assert "loss/critic_weight_0.5/total" in found and "loss/critic_weight_0.25/total" in found
    assert "loss/critic_weight_2.0/total" not in found
