"""IRIS's golden files: what is wrong, on either side, is noticed."""

import json

import numpy as np
import pytest

from models.parity.golden_file import GoldenFile, Tolerance
from models.parity.iris.config import iris_config
from models.parity.iris.family import tolerance
from models.parity.learning import watched
from tests.models.parity.golden_files import Arrays, Change, changed, failed, restated, untrained

GOLDEN = "iris_atari"


@pytest.fixture
def quick(arrays: Arrays, monkeypatch: pytest.MonkeyPatch) -> Arrays:
    """The file without what takes most of its time: training steps."""
    monkeypatch.setattr("models.parity.iris.family.training_outputs", lambda case: {})
    return untrained(arrays)


WRONG = ("tokenizer/z", "world_model/logits_ends", "env/state_after_step2/layer1/keys", "imagine/values")
WRONG_BYTES = ("env/frames_uint8", "env/reset_observation", "imagine/observations")


@pytest.mark.slow
def test_wrong_numbers_and_bytes_that_are_off_by_two_fail_their_entries_alone(quick: Arrays) -> None:
    wrong = {name: np.array(quick[name]) for name in (*WRONG, *WRONG_BYTES)}
    for name in WRONG:
        wrong[name].reshape(-1)[0] += 1e-3
    for name in WRONG_BYTES:
        place = wrong[name].reshape(-1)
        place[7] = place[7] - 2 if place[7] > 9 else place[7] + 2
    assert failed(quick | wrong) == wrong.keys()


@pytest.mark.slow
def test_an_altered_input_is_noticed(quick: Arrays) -> None:
    draws = np.array(quick["draws/imagine/ends"])
    draws[0, 1] ^= 1
    assert failed(quick | {"draws/imagine/ends": draws}) == {"imagine/ends", "imagine/lambda_returns"}


@pytest.mark.slow
def test_another_discount_in_the_config_is_noticed(quick: Arrays) -> None:
    assert failed(restated(quick, lambda c: c["training"].update(gamma=0.99))) == {"imagine/lambda_returns"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c["world_model"].update(attn_pdrop=0.1), r"attn_pdrop = 0\.1, where this project has 0\.0 alone"),
        (lambda c: c["world_model"].update(attention="block_causal"), "attention"),
        (lambda c: c["tokenizer"]["encoder"].update(out_ch=1), "states 3 channels in and 1 out"),
        (lambda c: c["training"].pop("gamma"), "does not state 'gamma'"),
        (lambda c: c["training"].update(optimism=1), "states 'optimism', which is not known here"),
        (lambda c: c["world_model"].update(tokens_per_block=10), "they must be equal, set both"),
    ],
)
def test_what_is_stated_otherwise_is_refused(arrays: Arrays, change: Change, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        iris_config(changed(arrays, change))


def test_watched_parameters_lie_evenly_from_the_first_to_the_last() -> None:
    names = [str(place) for place in range(47)]
    found = [int(name) for name in watched(names)]
    assert found == [0, 4, 7, 11, 14, 18, 21, 25, 28, 32, 35, 39, 42, 46]
    assert watched(names[:3]) == names[:3] and watched([]) == []


def test_gradients_that_the_file_says_to_vanish_are_compared_absolutely(arrays: Arrays) -> None:
    stated = json.loads(str(arrays["meta/optimizer"]))
    stated["parameters_with_vanishing_gradient"]["tokenizer"] = ["encoder.conv_in.bias"]
    golden = GoldenFile(arrays | {"meta/optimizer": np.array(json.dumps(stated))})
    assert tolerance(golden, "grad/tokenizer/encoder.conv_in.bias") == Tolerance(absolute=1e-6)
    assert tolerance(golden, "grad/tokenizer/encoder.mid.attn_1.k.bias") == 3e-4
    assert tolerance(golden, "grad/world_model/transformer.blocks.1.attn.key.bias") == Tolerance(absolute=1e-6)
