"""Which entries a file of each agent should have, with draws of ours: no file of theirs is small enough to be here.

Their recorded numbers are compared by hand, `worldline parity FILE.npz`; what stands here is that every agent and kind
of network has its entries, all of them numbers.
"""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from models.api import Moment
from models.dreamer.actor_critic import ActorCritic
from models.dreamer.config import DreamerConfig, Faults
from models.dreamer.state_dict import Names, original_state_dict
from models.dreamer.world_model import WorldModel
from models.parity.dreamer import case as cases
from models.parity.dreamer import family
from models.parity.dreamer.case import Case
from models.parity.dreamer.config import Training
from models.parity.golden_file import GoldenFile
from models.rssm.chance import Seeded
from models.rssm.config import RssmConfig
from tests.models.dreamer.small_dreamer import CONFIGS, SMALL, segments

STEPS = 8
GAUSSIAN = RssmConfig(deter=8, hidden=7, stoch=3, discrete=0)
TERMS = ("kl", "af_kl", "va_kl", "rank", "image", "reward", "aux_reward", "discount")


def latent(**changes: object) -> DreamerConfig:
    changed = replace(SMALL["latent_action"], **changes)
    kind = "none" if changed.kind == "deterministic" else "sign"
    return replace(CONFIGS["prelar_pretrain"], latent_action=changed, consistency=kind)


def encoder(kind: str) -> DreamerConfig:
    return replace(CONFIGS["prelar"], action_encoder=replace(SMALL["action_encoder"], kind=kind))


def without_dropout(name: str) -> DreamerConfig:
    """As files are recorded."""
    return replace(CONFIGS[name], frames=replace(CONFIGS[name].frames, dropout=0.0))


VARIANTS: dict[str, tuple[str, DreamerConfig]] = {
    "prelar_pretrain": ("PreLARPretrain", latent()),
    "discrete": ("PreLARPretrain", latent(kind="discrete")),
    "plain": ("PreLARPretrain", latent(kind="deterministic", sees="diff")),
    "apv_pretrain": ("APV_Pretrain", CONFIGS["apv_pretrain"]),
    "contextwm_pretrain": ("APV_Pretrain", without_dropout("contextwm_pretrain")),
    "gaussian_videos": ("APV_Pretrain", replace(CONFIGS["apv_pretrain"], rssm=GAUSSIAN)),
    "prelar": ("PreLARFinetune", encoder("deterministic")),
    "encoded_numbers": ("PreLARFinetune", encoder("stochastic")),
    "encoded_classes": ("PreLARFinetune", encoder("discrete")),
    "apv": ("APV_Finetune", CONFIGS["apv"]),
    "concat": ("APV_Finetune", replace(CONFIGS["apv"], concat_embed=True)),
    "contextwm": ("APV_Finetune", without_dropout("contextwm")),
    "naive": ("Naive_Finetune", CONFIGS["naive"]),
    "ends": ("DreamerV2", replace(CONFIGS["dreamerv2"], ends=True, rewards="tanh")),
    "gaussian": ("DreamerV2", replace(CONFIGS["dreamerv2"], rssm=GAUSSIAN)),
}
STATE = {"logit", "deter"}
LONG = {
    "concat",
    "contextwm",
    "ends",
    "encoded_classes",
    "encoded_numbers",
    "gaussian",
    "prelar",
}  # and of each part another stays
EXPECTED = {
    "prelar_pretrain": {"latent_action/std", "loss/eval/rank", "train/rank/prior_kl", "carry/post/logit"},
    "discrete": {"latent_action/logit", "latent_action/kl_value", "loss/train/va_kl"},
    "plain": {"latent_action/deter", "loss/train2/va_kl", "metrics/eval/action_kl"},
    "contextwm_pretrain": {"encoder/shortcut_8", "decoder/res0_attention_out_first2", "open_loop/image/every4"},
    "gaussian_videos": {"rssm/prior/stoch", "mode/prior_1/mean", "open_loop/prior/std"},
    "encoded_numbers": {"action_encoder/std", "action_encoder/stoch"},
    "encoded_classes": {"action_encoder/logit"},
    "apv": {"af_rssm/kl_value", "bonus/call1/queue", "after_schedule/names", "policy/state1/logit"},
    "naive": {"metrics/joint/wm.af_model_kl", "schedule/lr_before_lr_after_encoderdelta"},
    "ends": {"heads/discount/mean", "loss/eval/discount", "imagine/discount"},
    "gaussian": {"rssm/post/mean", "imagine/stoch", "policy/state0/std"},
}


class Ours(Seeded):
    """Draws of our own in place of a file's."""

    def __init__(self, golden: GoldenFile, stage: str, imagined: bool = False) -> None:
        super().__init__(0, f"{stage}.{imagined}", Moment(0))

    def skip(self, what: str, count: int) -> None:
        pass


def made(agent: str, config: DreamerConfig, names: Names = "prelar") -> Case:
    """A file of our own: weights, segments, and the entries that say which terms it tells of."""
    config = replace(config, faults=Faults(**dict.fromkeys(vars(Faults()), True)))
    world, behaviour = WorldModel(config, 1), ActorCritic(config, 1) if config.practises else None
    weights = original_state_dict(world, behaviour, names)
    once = {name: each for name, each in weights.items() if not name.startswith("_expl_behavior.")}
    given = segments(steps=STEPS)
    assert given.actions_BTA is not None and given.rewards_BT is not None and given.ends_BT is not None
    batch = {
        "image": given.frames_BTCRR,
        "is_first": given.first_BT.float(),
        "is_last": given.first_BT.float(),
        "is_terminal": given.ends_BT.float(),
        "action": given.actions_BTA,
        "reward": given.rewards_BT,
    }
    stated = {"agent": agent, "repo": "PreLAR"}
    arrays = {"meta/family": np.array("wmlib"), "meta/config": np.array(json.dumps(stated))}
    arrays |= {f"weights/agent/{name}": each.numpy() for name, each in once.items()}
    arrays |= {f"batch/{name}": each.numpy() for name, each in batch.items()}
    arrays |= {f"grad_terms/{name}": np.zeros(1) for name in TERMS}
    numbers = dict.fromkeys(("world_model", "encoder", "actor", "critic"), 1e-3)
    training = Training(numbers, dict.fromkeys(numbers, 100.0), numbers)
    return Case(GoldenFile(arrays), config, training, names, WorldModel(config), behaviour and ActorCritic(config))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in LONG else []) for name in VARIANTS]
)
def test_every_agent_has_its_entries(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(cases, "Recorded", Ours)
    case = made(*VARIANTS[name])
    case.restore()
    found = family.every(case)
    assert EXPECTED.get(name, set()) <= found.keys()
    numbers = {key: np.asarray(each) for key, each in found.items() if not key.endswith("names")}
    odd = {key for key, each in numbers.items() if not key.startswith("grad_terms/") and not np.isfinite(each).all()}
    assert not odd
    again = family.every(case)  # nothing that one stage changed is left for the next
    assert all(np.array_equal(np.asarray(again[key]), each, equal_nan=True) for key, each in numbers.items())


def test_terms_add_up_and_a_first_divergence_weighs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cases, "Recorded", Ours)
    case = made(*VARIANTS["apv"])
    case.restore()
    found = family.every(case)
    for stage in ("eval", "train", "train2"):
        terms = [float(found[f"loss/{stage}/{term}"]) for term in ("kl", "image", "reward", "aux_reward")]
        assert float(found[f"loss/{stage}/total"]) == pytest.approx(sum(terms), rel=1e-5)
    rates = np.asarray(found["schedule/lr_before_lr_after_encoderdelta"])
    assert (rates[:2, 2] == 0).all() and (rates[2:, 2] > 0).all() and rates[:, 0].tolist() == [0, 0, 1e-3, 1e-3]
    rows = np.asarray(found["slow_target/critic_target_actor_sums_and_losses"])
    assert rows[0, 0] == rows[0, 1] == rows[1, 1] != rows[2, 1]
