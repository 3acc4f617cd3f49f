"""Delta-IRIS's golden files: what is wrong, on either side, is noticed."""

import json

import numpy as np
import pytest

from models.parity.delta_iris.config import delta_iris_config
from tests.models.parity.golden_files import Arrays, Change, a_thousandth_off, changed, failed

GOLDEN = "delta_iris_crafter"
WRONG = (
    "tokenizer/z",
    "tokenizer/embed_tokens_first8",
    "loss/tokenizer/reconstruction_loss_l2_worst_pixel",
    "after_update/tokenizer/codebook",
    "revival_collapsed/codewords_freqs",
    "world_model/two_hot_rewards",
    "env/state_after_flush_step/layer1/keys",
    "env/logits_rewards",
    "imagine/lambda_returns",
    "grad/actor_critic/model.lstm.weight_hh",
    "after_update/target/lstm.bias_ih",
    "after_step/world_model/act_emb.weight",
)


@pytest.mark.slow
def test_wrong_numbers_fail_their_entries_alone(arrays: Arrays) -> None:
    wrong = a_thousandth_off(arrays, [name for name in WRONG if name in arrays])
    assert len(wrong) >= len(WRONG) - 1
    groups = json.loads(str(arrays["meta/optimizer"]))
    groups["tokenizer"][0]["names"].append(groups["tokenizer"][1]["names"].pop(0))
    wrong["meta/optimizer"] = np.array(json.dumps(groups))
    wrong["env/cache_sizes"] = np.array(arrays["env/cache_sizes"]) + 1
    assert failed(arrays | wrong) == wrong.keys()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c["world_model"]["transformer_config"].update(attention="block_causal"), "has causal alone"),
        (lambda c: c["world_model"]["transformer_config"].update(tokens_per_block=7), "tokens_per_block = 7, where"),
        (lambda c: c["tokenizer"]["decoder_config"].update(latent_dim=12), "decoder_config.latent_dim = 12"),
        (lambda c: c["tokenizer"].update(attention=True), "states 'attention', which is not known here"),
        (lambda c: c["training"].pop("max_grad_norm"), "does not state 'max_grad_norm'"),
        (lambda c: c["actor_critic"]["frame_encoder_config"].update(image_channels=1), "image_channels = 1, where"),
    ],
)
def test_what_is_stated_otherwise_is_refused(arrays: Arrays, change: Change, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        delta_iris_config(changed(arrays, change))
