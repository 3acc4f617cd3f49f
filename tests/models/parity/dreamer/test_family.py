"""DreamerV2 against the original's numbers; that what is wrong, on either side, is noticed; what files may state."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from models.parity.check import check, compare
from models.parity.dreamer.config import dreamer_config
from models.parity.golden_file import Tolerance
from tests.models.parity.golden_files import FILES, Arrays, load, restated

DREAMER = next(path for path in FILES if path.stem == "dreamerv2")
INPUTS = ("meta/", "weights/", "batch/", "draws/")
STEPPED = "wm.encoder._cnn_nn.conv0.weight"


def failed(arrays: Arrays) -> set[str]:
    return {one.name for one in check(arrays) if not one.ok}


@pytest.fixture(scope="module")
def arrays() -> Arrays:
    torch.set_num_threads(1)
    return load(DREAMER)


def test_every_output_agrees_with_the_original(arrays: Arrays) -> None:
    checks = check(arrays)
    assert [one for one in checks if not one.ok] == []
    assert {one.name for one in checks} == {name for name in arrays if not name.startswith(INPUTS)}
    assert len(checks) == 299


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
    wrong = {name: np.array(arrays[name]) for name in WRONG}
    for array in wrong.values():
        array[np.unravel_index(np.abs(array).argmax(), array.shape)] *= 1.001
    wrong["after_joint/names"] = arrays["after_joint/names"][::-1]
    missing = {f"grad/behavior/{name}" for name in ("_task_behavior.critic._out_dist._out_nn.bias",)}
    found = failed({name: array for name, array in (arrays | wrong).items() if name not in missing})
    assert found == wrong.keys() | missing


def test_a_small_step_of_a_weight_is_measured_by_how_far_it_went(arrays: Arrays) -> None:
    name = f"after_step/train/{STEPPED}"
    changed = np.array(arrays[name])
    changed[2] *= 1.001  # of [sum, norm, norm of what changed] by far the smallest
    assert failed(arrays | {name: changed}) == {name}


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
def test_what_is_stated_otherwise_is_refused(
    arrays: Arrays, change: Callable[[dict[str, Any]], object], words: str
) -> None:
    stated = json.loads(str(restated(arrays, change)["meta/config"]))
    with pytest.raises(ValueError, match=words):
        dreamer_config(stated)


def test_nan_may_stand_for_no_gradient() -> None:
    none = Tolerance(0.1, nan_means_none=True)
    assert compare("x", [1.0, np.nan], [1.0, np.nan], none).ok
    assert not compare("x", [1.0, 0.0], [1.0, np.nan], none).ok
    assert not compare("x", [1.0, np.nan], [1.0, 0.0], none).ok
    assert not compare("x", [1.0, np.nan], [1.0, np.nan], Tolerance(0.1)).ok
