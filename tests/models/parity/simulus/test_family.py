"""Simulus's golden files: what is wrong, on either side, is noticed."""

import numpy as np
import pytest

from models.parity.simulus.config import simulus_config
from tests.models.parity.golden_files import Arrays, Change, a_thousandth_off, changed, failed, restated

GOLDEN = "simulus_options"
WRONG = (
    "tokenizer/z_quantized",
    "hl_gauss/reward_target_probs",
    "world_model/jensen_shannon",
    "world_model/incremental/latents_block2",
    "act/values",
    "imagine/logits_tokens",
    "imagine/return_quantile_low",
    "loss/world_model/curiosity_loss",
    "ema/embed_avg",
    "grad/actor_critic/critic.lstm.weight_hh_l0",
    "after_step/tokenizer/tokenizers.image.embedding.weight",
)


def test_wrong_numbers_fail_their_entries_alone(arrays: Arrays) -> None:
    wrong = a_thousandth_off(arrays, WRONG)
    wrong["grad_none/world_model"] = np.array(["obs_emb_map.weight"])
    wrong["optimiser/world_model_decayed"] = arrays["optimiser/world_model_decayed"][1:]
    frequency = np.array(arrays["replay/inclusion_frequency_batch8"])
    frequency[0] += 0.03
    wrong["replay/inclusion_frequency_batch8"] = frequency
    assert failed(arrays | wrong) == wrong.keys()


@pytest.mark.slow
def test_what_is_weighed_or_remembered_otherwise_is_noticed(arrays: Arrays) -> None:
    found = failed(restated(arrays, lambda c: c["actor_critic"].update(intrinsic_reward_weight=9.0)))
    assert {"imagine/rewards", "imagine/advantages"} <= found and "imagine/rewards_extrinsic" not in found
    found = failed(restated(arrays, lambda c: c["world_model"]["retnet"].update(decay_scale_max_num_blocks=9)))
    assert {"retention/gammas", "world_model/output", "loss/world_model/loss_obs"} <= found
    found = failed(arrays | {"batch/probe/return_buffer": arrays["batch/probe/return_buffer"] * 2})
    assert "imagine/returns_scale" in found and "imagine/lambda_returns" not in found
    found = failed(restated(arrays, lambda c: c.update(replay_uniform=0.5)))
    assert {name.split("/")[0] for name in found} == {"replay"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c["world_model"]["retnet"].update(dropout=0.1), "dropout = 0.1, where this project has 0.0 alone"),
        (lambda c: c["world_model"].update(shared_embeddings=False), "where this project has True alone"),
        (lambda c: c["world_model"].update(transformer={}), "states transformer and retnet backbone: one of"),
        (lambda c: c["world_model"].update(obs_emb_dim=9), "codes of 9 numbers, where the tokenizer has 24"),
        (lambda c: c["actor_critic"].update(rnn_type="gru"), "where this project has lstm alone"),
        (lambda c: c["training"]["actor_critic"].pop("gamma"), "does not state 'gamma'"),
        (lambda c: c["tokenizer"]["encoder"].update(input_resolution=[64, 32]), "square ones are known here"),
        (lambda c: c["tokenizer"].update(fsq_levels=[5, 5]), "make 25 tokens, vocab_size is 48"),
    ],
)
def test_what_is_stated_otherwise_is_refused(arrays: Arrays, change: Change, words: str) -> None:
    with pytest.raises(ValueError, match=words.replace(".", r"\.")):
        simulus_config(changed(arrays, change))
