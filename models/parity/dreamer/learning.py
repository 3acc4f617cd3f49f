"""What a world loses and how it moves in train mode: losses, gradients by term and parameter, one and two steps.

Shapes: B segments, T steps.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from models.dreamer.config import WeightsConfig
from models.dreamer.loss import Lost, world_loss
from models.dreamer.optimiser import SPLIT, WORLD, Optimisers, world_parts
from models.parity.dreamer.case import Case, mean, spread

TERMS = {  # theirs by ours, in their order
    "kl": "kl",
    "first_kl": "af_kl",
    "latent_kl": "va_kl",
    "consistency": "rank",
    "image": "image",
    "reward": "reward",
    "aux_reward": "aux_reward",
    "discount": "discount",
}
SHOWN = ("image", "reward")  # whose log chances are recorded
LATER = ("train", "sched1", "sched2", "sched3")  # draws of a schedule's updates


def loss_entries(case: Case, stage: str, lost: Lost) -> Iterator[tuple[str, Tensor]]:
    """`loss/<stage>/*` and log chances."""
    for ours, term in lost.terms.items():
        yield f"loss/{stage}/{TERMS[ours]}", term.detach()
    if plain_latents(case):
        yield f"loss/{stage}/va_kl", torch.zeros((), dtype=torch.float64)
    yield f"loss/{stage}/total", lost.total(case.config).detach()
    if stage in ("eval", "train"):
        for name in SHOWN:
            if name in lost.log_chances:
                yield f"{stage}/log_prob/{name}", lost.log_chances[name].detach()


def world_metrics(case: Case, stage: str, lost: Lost) -> dict[str, Tensor]:
    """`metrics/<stage>/*` of a world's losses: each agent of the originals tells its own."""
    prefix, agent = f"metrics/{stage}", case.golden.config["agent"]
    observed, kind = lost.observed, case.world.rssm.kind
    kl = mean(lost.kls["kl"])
    prior, posterior = mean(kind.entropy(observed.prior)), mean(kind.entropy(observed.posterior.stats))
    told: dict[str, Tensor]
    if agent == "DreamerV2":
        told = {"model_kl": kl, "prior_entropy": prior, "post_entropy": posterior}
    elif agent == "Naive_Finetune":
        told = {"af_model_kl": kl, "af_prior_ent": prior, "af_post_ent": posterior}
    else:
        told = {"model_kl": kl, "prior_ent": prior, "post_ent": posterior}
    if observed.first is not None:
        below, expected = observed.first
        told["af_model_kl"] = mean(lost.kls["first_kl"])
        told |= {"af_prior_ent": mean(kind.entropy(expected)), "af_post_ent": mean(kind.entropy(below.stats))}
    if lost.latent_kls is not None or plain_latents(case):
        told["action_kl"] = mean(torch.zeros(1) if lost.latent_kls is None else lost.latent_kls)
    told |= dict(_embedded(case, lost)) | dict(_rewards(case, lost))
    return {f"{prefix}/{name}": each for name, each in told.items()}


def plain_latents(case: Case) -> bool:
    """Whether there are latent actions that nothing draws together; a divergence of 0 is told all the same."""
    return case.world.latent_action is not None and case.world.latent_action.kind is None


def _embedded(case: Case, lost: Lost) -> Iterator[tuple[str, Tensor]]:
    """What is told of embedded frames."""
    embedded = lost.observed.embedded_BTE
    if case.golden.config["agent"] == "DreamerV2":
        return
    yield "embed_mean", mean(embedded)
    if case.config.practises:
        yield "embed_abs_mean", mean(embedded.abs())
    else:
        yield "embed_std", spread(embedded)
        yield "embed_norm", mean(embedded.square())
        yield "deter_norm", mean(lost.observed.posterior.deter.square())


def _rewards(case: Case, lost: Lost) -> Iterator[tuple[str, Tensor]]:
    """What is told of rewards and of what is paid for news."""
    targets, means, rewards = lost.reward_targets, lost.reward_means, case.segments.rewards_BT
    if case.golden.config["agent"] == "DreamerV2" or targets is None or means is None or rewards is None:
        return
    for name, each in (("target", targets), ("predict", means)):
        yield f"reward_{name}_mean", mean(each)
        yield f"reward_{name}_std", spread(each)
    if lost.paid is not None and case.world.bonus is not None:
        paid, mag = lost.paid, case.world.bonus.norm.mag
        yield from bonus_metrics(paid.distances_BM, paid.bonus_BM, rewards, mag)


def bonus_metrics(distances: Tensor, bonuses: Tensor, rewards: Tensor, mag: Tensor) -> Iterator[tuple[str, Tensor]]:
    """What is told of a bonus."""
    yield "intr_mean", mean(distances)
    yield "intr_std", spread(distances)
    yield "intr_normed_mean", mean(bonuses)
    yield "intr_normed_std", spread(bonuses)
    yield "plain_reward_mean", mean(rewards)
    yield "intr_mag", mag.clone()


def optimisers(case: Case) -> Optimisers:
    """Fresh ones of the world."""
    training = case.training
    return Optimisers(case.config, world_parts(case.world), training.lr, training.clip, training.weight_decay)


def lost_in_training(case: Case, stage: str) -> Lost:
    """With batch norms of the batch."""
    case.world.train()
    try:
        return world_loss(case.world, case.segments, case.draws(stage))
    finally:
        case.world.eval()


def step(case: Case, stage: str, learner: Optimisers) -> tuple[Lost, dict[str, Tensor]]:
    """One update, and what is told of it: the norms before clipping, and the sum of the losses once more."""
    lost = lost_in_training(case, stage)
    metrics = world_metrics(case, stage, lost)
    total = lost.total(case.config)
    learner.backward(total)
    return lost, metrics | _norms(case, stage, total, learner.move())


def _norms(case: Case, stage: str, total: Tensor, norms: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found = {f"metrics/{stage}/model_grad_norm": norms[WORLD]}
    if SPLIT in norms:
        found |= {
            f"metrics/{stage}/enc_model_loss": total.detach(),
            f"metrics/{stage}/enc_model_grad_norm": norms[SPLIT],
        }
    return found


def training_outputs(case: Case) -> dict[str, Tensor | np.ndarray]:
    """Stages train and train2, on the same segments. Weights are put back at the end."""
    found: dict[str, Tensor | np.ndarray] = {}
    learner, before = optimisers(case), weights(case)
    for stage in ("train", "train2"):
        lost, metrics = step(case, stage, learner)
        found |= dict(loss_entries(case, stage, lost)) | metrics
        if stage == "train":
            found |= dict(_first_step(case, lost, learner))
        found |= {f"after_step/{stage}/{name}": each for name, each in moved(case, before).items()}
    case.restore()
    return found


def _first_step(case: Case, lost: Lost, learner: Optimisers) -> Iterator[tuple[str, Tensor]]:
    """What the first step saw and its gradients, whose clipping is undone: they are recorded as they came."""
    yield "train/embed", lost.observed.embedded_BTE.detach()
    yield "train/feat", lost.observed.posterior.feature.detach()
    yield "train/kl_value", lost.kls["kl"].detach()
    if lost.compared is not None:
        yield "train/rank/prior_kl", lost.compared[0]
        yield "train/rank/latent_action_kl", lost.compared[1].detach()
    for name, each in learner.gradients.items():
        yield f"grad/train/{case.theirs(name)}", each


def term_outputs(case: Case) -> dict[str, Tensor | np.ndarray]:
    """Gradients of each term alone, the others weighing 0; NaN where none arrives at all."""
    parameters = {case.theirs(name): each for name, each in case.world.named_parameters()}
    order = case.order(set(parameters))
    found: dict[str, Tensor | np.ndarray] = {"grad_terms/parameter_names": np.array(order)}
    present = [name for name in TERMS if f"grad_terms/{TERMS[name]}" in case.golden.arrays]
    for name in present:
        alone = replace(WeightsConfig(**dict.fromkeys(vars(case.config.weights), 0.0)), **{name: 1.0})
        config, auxiliary = replace(case.config, weights=alone), case.world.aux_reward
        if name != "aux_reward":
            case.world.aux_reward = None  # a head of weight 0 is not there
        for each in parameters.values():
            each.grad = None
        lost_in_training(case, "train").total(config).backward()
        given = [parameters[each].grad for each in order]
        norms = [float("nan") if each is None else float(each.double().norm()) for each in given]
        found[f"grad_terms/{TERMS[name]}"] = torch.tensor(norms, dtype=torch.float64)
        case.world.aux_reward = auxiliary
        case.restore()
    return found


def schedule_outputs(case: Case) -> dict[str, Tensor | np.ndarray]:
    """Four updates of which the first two leave what was loaded as it is."""
    config = replace(case.config, delay=2)
    learner, before = optimisers(case), weights(case)
    learner.config, rows = config, []
    carried = learner.parts[SPLIT]
    told = [name for name in carried if name.startswith("encoder.") and name.endswith(".weight")]
    at_first = {name: carried[name].detach().clone() for name in told}
    for update, stage in enumerate(LATER):
        rate = learner.rate(SPLIT)
        step(case, stage, learner)
        changes = [float((carried[name].detach() - each).double().norm()) for name, each in at_first.items()]
        rows.append([rate, learner.rate(SPLIT), sum(changes)])
        assert update + 1 == learner.updates
    found: dict[str, Tensor | np.ndarray] = {
        "schedule/lr_before_lr_after_encoderdelta": torch.tensor(rows, dtype=torch.float64)
    }
    found |= listed(case, "after_schedule", moved(case, before))
    case.restore()
    return found


def weights(case: Case) -> dict[str, Tensor]:
    """Copies of all weights of a case, by the file's names."""
    modules = [case.world] if case.behaviour is None else [case.world, case.behaviour]
    found = {name: each for module in modules for name, each in module.state_dict().items()}
    counted = ("bonus.filled", "updates")
    return {case.theirs(name): each.detach().clone() for name, each in found.items() if name not in counted}


def moved(case: Case, before: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of all weights, as they are now: sum, norm, and norm of what changed; float64."""
    now = weights(case)
    return {name: _three(now[name].double(), before[name].double()) for name in before}


def _three(now: Tensor, before: Tensor) -> Tensor:
    return torch.stack([now.sum(), now.norm(), (now - before).norm()])


def listed(case: Case, prefix: str, found: Mapping[str, Tensor]) -> dict[str, Tensor | np.ndarray]:
    """The same as one table, with its names."""
    order = case.order(set(found))
    return {
        f"{prefix}/names": np.array(order),
        f"{prefix}/sum_l2_deltal2": torch.stack([found[name] for name in order]),
    }
