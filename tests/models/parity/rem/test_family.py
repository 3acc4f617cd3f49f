"""REM's golden files: what is wrong, on either side, is noticed."""

import numpy as np
import pytest

from models.parity.rem.config import rem_config
from tests.models.parity.golden_files import Arrays, Change, a_thousandth_off, changed, failed, restated

GOLDEN = "rem_options"
WRONG = (
    "tokenizer/z",
    "retention/block_states_from_state",
    "retnet/prediction/output",
    "world_model/incremental/next_logits",
    "act/values",
    "imagine/logits_tokens",
    "loss/world_model/loss_obs",
    "grad/actor_critic/rnn.weight_hh",
    "grad_rows/world_model/embedding",
    "after_step/tokenizer/decoder.out_block.2.bias",
)


def test_wrong_numbers_fail_their_entries_alone(arrays: Arrays) -> None:
    wrong = a_thousandth_off(arrays, WRONG)
    wrong["grad_none/world_model"] = np.array(["embedding.weight"])
    wrong["grad_other/world_model/tokenizer"] = np.array(1)
    assert failed(arrays | wrong) == wrong.keys()


@pytest.mark.slow
def test_what_seldom_matters_is_noticed_too(arrays: Arrays) -> None:
    """Clipping left out, and decay of everything, show in what a step changes alone."""
    found = failed(restated(arrays, lambda c: c["training"]["actor_critic"].update(max_grad_norm=1e9)))
    assert "grad_total/actor_critic/after_clip" in found and not any(name.startswith("grad/") for name in found)
    found = failed(restated(arrays, lambda c: c["training"]["world_model"].update(weight_decay=0.0)))
    assert {name.split("/")[0] for name in found} == {"after_step"}
    assert not any("norm" in name or "bias" in name or "embed" in name for name in found)
    draws = np.array(arrays["draws/imagine/ends"])
    draws[0, 1] ^= 1
    assert {"imagine/ends", "imagine/lambda_returns"} <= failed(arrays | {"draws/imagine/ends": draws})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda c: c["world_model"]["retnet"].update(dropout=0.1),
            r"dropout = 0\.1, where this project has 0\.0 alone",
        ),
        (lambda c: c["world_model"]["retnet"].update(tokens_per_block=65), "where a frame has 16 tokens"),
        (lambda c: c["world_model"].update(context_length=7), "leaves none of 7 blocks"),
        (lambda c: c["actor_critic"].update(name="DQN"), "an actor-critic 'DQN', which is not known here"),
        (lambda c: c["training"]["actor_critic"].pop("gamma"), "does not state 'gamma'"),
        (lambda c: c["tokenizer"]["encoder"].update(input_resolution=[64, 32]), "square ones are known here"),
        (lambda c: c.update(lpips=True), "states lpips = True, where this project has False alone"),
        (lambda c: c.update(world_model=c["world_model"] | {"shared_embeddings": True}), "cannot be read by a world"),
    ],
)
def test_what_is_stated_otherwise_is_refused(arrays: Arrays, change: Change, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        rem_config(changed(arrays, change))
