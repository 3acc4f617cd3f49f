"""DreamerV2's golden file: what is wrong, on either side, is noticed; what files may state."""

from collections.abc import Callable

import numpy as np
import pytest

from models.parity.check import check, compare
from models.parity.dreamer.config import dreamer_config
from models.parity.golden_file import Tolerance
from tests.models.parity.golden_files import Arrays, Change, a_thousandth_off, changed, failed

GOLDEN = "dreamerv2"
STEPPED = "wm.encoder._cnn_nn.conv0.weight"
WRONG = (
    "rssm/prior/logit",
    "decoder/image/every4",
    "eval/log_prob/reward",
    "open_loop/video_sum",
    "loss/train/kl",
    "grad/train/wm.rssm._cell._norm.bias",
    "grad_terms/kl",
    f"after_step/train2/{STEPPED}",
    "imagine/critic_target_used",
    "slow_target/critic_target_actor_sums_and_losses",
    "metrics/joint/behavior.actor_entropy",
    "after_joint/sum_l2_deltal2",
    "policy/action_2_eval",
)


def test_wrong_numbers_fail_their_entries_alone(arrays: Arrays) -> None:
    wrong = a_thousandth_off(arrays, WRONG)
    wrong["after_joint/names"] = arrays["after_joint/names"][::-1]
    missing = {f"grad/behavior/{name}" for name in ("_task_behavior.critic._out_dist._out_nn.bias",)}
    found = failed({name: array for name, array in (arrays | wrong).items() if name not in missing})
    assert found == wrong.keys() | missing


def test_a_small_step_of_a_weight_is_measured_by_how_far_it_went(arrays: Arrays) -> None:
    name = f"after_step/train/{STEPPED}"
    wrong = np.array(arrays[name])
    wrong[2] *= 1.001  # of [sum, norm, norm of what changed] by far the smallest
    assert failed(arrays | {name: wrong}) == {name}


def test_other_draws_make_another_world(arrays: Arrays) -> None:
    name = "draws/train/rssm_post/category"
    found = failed(arrays | {name: (arrays[name] + 1) % 8})
    assert {"train/feat", "loss/train/kl"} <= found and "rssm/feat" not in found


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda draws: draws[:-1], "rssm_post/category are fewer than are asked for"),
        (lambda draws: draws[:, :2], r"are \(2, 4\) each, and \(3, 4\) is asked for"),
        (lambda draws: draws + 8, "holds classes beyond 8"),
    ],
)
def test_draws_that_do_not_fit_are_refused(
    arrays: Arrays, change: Callable[[np.ndarray], np.ndarray], words: str
) -> None:
    name = "draws/eval/rssm_post/category"
    with pytest.raises(ValueError, match=words):
        check(arrays | {name: change(arrays[name])})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.update(agent="DreamerV3"), "states the agent 'DreamerV3': known are"),
        (lambda c: c["config"]["rssm"].update(ensemble=5), "rssm.ensemble = 5, where this project has 1 alone"),
        (lambda c: c["config"]["encoder"].update(norm="layer"), "encoder.norm = layer, where"),
        (lambda c: c["config"]["kl"].update(forward=True), "kl.forward = True, where"),
        (lambda c: c["config"]["model_opt"].update(eps=1e-8), "model_opt.eps = 1e-08"),
        (lambda c: c["config"]["decoder"].update(cnn_input_dim=70), "decoder.cnn_input_dim = 70, where .* make it 68"),
        (lambda c: c["config"]["rssm"].update(embed_dim=70), "rssm.embed_dim = 70"),
        (lambda c: c["config"].update(grad_heads=["decoder"]), "grad_heads = "),
        (lambda c: c["config"].update(attention=True), "states 'attention', which is not known here"),
        (lambda c: c["config"].pop("imag_horizon"), "does not state 'imag_horizon'"),
        (lambda c: c["config"].update(encoder_type="resnet"), r"\('resnet', 'plaincnn'\), which are not known"),
    ],
)
def test_what_is_stated_otherwise_is_refused(arrays: Arrays, change: Change, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        dreamer_config(changed(arrays, change))


def test_nan_may_stand_for_no_gradient() -> None:
    none = Tolerance(0.1, nan_means_none=True)
    assert compare("x", [1.0, np.nan], [1.0, np.nan], none).ok
    assert not compare("x", [1.0, 0.0], [1.0, np.nan], none).ok
    assert not compare("x", [1.0, np.nan], [1.0, 0.0], none).ok
    assert not compare("x", [1.0, np.nan], [1.0, np.nan], Tolerance(0.1)).ok
