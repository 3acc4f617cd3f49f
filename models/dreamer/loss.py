"""What a world of the Dreamer family loses on segments: terms by name, their sum, and what is told besides.

Sources: arXiv 2010.02193, section 2.1 (KL balance, unit Gaussians of frames and rewards); 2203.13880 (a bonus in the
reward that is learned); PreLAR (latent actions). Shapes: B segments, T steps, M stretches of a bonus.
"""

import math
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from models.dreamer.config import DreamerConfig
from models.dreamer.world_model import Observed, Segments, WorldModel, centred
from models.rssm.bonus import Paid
from models.rssm.chance import Draws, OneHot
from models.rssm.consistency import relative_consistency, sign_consistency, soft_consistency
from models.rssm.heads import log_chance
from models.rssm.latent_action import ORIGINAL_PRIOR_STD, PRIOR_STD, latent_kl
from models.rssm.model import balanced_kl


@dataclass(frozen=True)
class Lost:
    """terms: scalars with their graph, before their weights. log_chances: what was said of what was there, by name.

    kls: KL of posteriors from priors (B, T), of each model. Others are None where the agent lacks them.
    """

    terms: dict[str, Tensor]
    observed: Observed
    kls: dict[str, Tensor]
    log_chances: dict[str, Tensor]
    paid: Paid | None = None
    reward_targets: Tensor | None = None
    reward_means: Tensor | None = None
    latent_kls: Tensor | None = None
    compared: tuple[Tensor, Tensor] | None = None  # by consistency: worlds, latent actions; (B * (T - 1),)
    drawn: Tensor | None = field(default=None, repr=False)

    def total(self, config: DreamerConfig) -> Tensor:
        """The weighted sum. Terms of weight 0 are left out, unless they are to be kept as in the originals."""
        weighed = {name: getattr(config.weights, name) for name in self.terms}
        kept = [
            weight * self.terms[name] for name, weight in weighed.items() if weight or config.faults.weightless_terms
        ]
        return torch.stack(kept).sum()


def world_loss(world: WorldModel, segments: Segments, draws: Draws) -> Lost:
    """All terms of a batch. Raises ValueError for segments that lack what the world learns."""
    config = world.config
    observed = world.observe(segments, draws)
    terms, kls = dict[str, Tensor](), dict[str, Tensor]()
    terms["kl"], kls["kl"] = balanced_kl(world.rssm.kind, observed.posterior.stats, observed.prior, config.kl)
    if observed.first is not None and world.first is not None:
        posterior, prior = observed.first
        terms["first_kl"], kls["first_kl"] = balanced_kl(world.first.kind, posterior.stats, prior, config.kl)
    lost = Lost(terms, observed, kls, {})
    if observed.latent_stats is not None:
        lost = _latent_terms(world, segments, lost, draws)
    features = observed.posterior.feature
    drawn = world.draw(features, observed.context, draws)
    errors = log_chance(drawn, centred(segments.frames_BTCRR)).sum((2, 3, 4))
    lost.log_chances["image"], terms["image"] = errors, -errors.mean()
    lost = replace(lost, drawn=drawn)
    return _reward_terms(world, segments, lost) if config.practises else lost


def _latent_terms(world: WorldModel, segments: Segments, lost: Lost, draws: Draws) -> Lost:
    """Divergence of latent actions, and their consistency with the world."""
    config, observed = world.config, lost.observed
    kind = None if world.latent_action is None else world.latent_action.kind
    if kind is None or observed.latent_stats is None or observed.actions_BTA is None:
        return lost
    kls = latent_kl(kind, observed.latent_stats, ORIGINAL_PRIOR_STD if config.faults.wide_prior else PRIOR_STD)
    if config.faults.constant_latent_kl and isinstance(kind, OneHot):
        kls = 0 * kls + math.log(kind.classes)
    lost.terms["latent_kl"] = kls.mean()
    if config.consistency == "none":
        return replace(lost, latent_kls=kls)
    worlds, actions = compared(world, segments, observed, draws)
    if config.consistency == "sign":
        lost.terms["consistency"] = sign_consistency(actions, worlds)
    else:
        loss = soft_consistency if config.consistency == "soft" else relative_consistency
        lost.terms["consistency"] = loss(actions, worlds, config.sharpness)
    return replace(lost, latent_kls=kls, compared=(worlds, actions))


def compared(world: WorldModel, segments: Segments, observed: Observed, draws: Draws) -> tuple[Tensor, Tensor]:
    """How far the expected worlds (N,) and latent actions (N,) move when each video takes another one's actions.

    N = B * (T - 1). Raises ValueError for a single segment, which has no other.
    """
    assert world.latent_action is not None and world.latent_action.kind is not None
    assert observed.actions_BTA is not None and observed.latent_stats is not None
    rows = len(observed.actions_BTA)
    if rows < 2:
        raise ValueError("Consistency exchanges actions between segments: give a batch of two or more")
    order_B = draws.order("exchange", rows).to(observed.actions_BTA.device)
    with torch.no_grad():
        before = observed.posterior.at((slice(None), slice(None, -1))).flatten()
        told = observed.actions_BTA[order_B, 1:].flatten(0, 1)
        if not world.config.faults.unmasked_exchange:
            fresh = segments.first_BT[:, 1:].flatten()[:, None]
            told = told.masked_fill(fresh, 0.0)
            sample, deter = (each.masked_fill(fresh, 0.0) for each in (before.sample, before.deter))
            before = before._replace(sample=sample, deter=deter)
        exchanged = world.rssm.prior(world.rssm.carry(before, world.rssm.told(told)))
        worlds = world.rssm.kind.divergence(observed.prior[:, 1:].flatten(0, 1), exchanged)
    others = observed.latent_stats[order_B]
    actions = world.latent_action.kind.divergence(observed.latent_stats, others).flatten()
    return worlds, actions


def _reward_terms(world: WorldModel, segments: Segments, lost: Lost) -> Lost:
    """Rewards with what is paid for news, plain rewards, and ends."""
    config, features_BTZ = world.config, lost.observed.posterior.feature
    if segments.rewards_BT is None or world.reward is None:
        raise ValueError("Segments without rewards: an agent that practises learns them")
    rewards_BT = bent(segments.rewards_BT, config)
    targets_BM, paid = rewards_BT, None
    if world.bonus is not None:
        paid = world.bonus(compared_by_bonus(config, lost.observed))
        targets_BM = rewards_BT[:, : paid.bonus_BM.shape[1]] + paid.bonus_BM
    means_BM = world.reward(features_BTZ[:, : targets_BM.shape[1]])
    told = log_chance(means_BM, targets_BM)
    lost.log_chances["reward"], lost.terms["reward"] = told, -told.mean()
    if world.aux_reward is not None:
        plain = log_chance(world.aux_reward(features_BTZ), rewards_BT)
        lost.log_chances["aux_reward"], lost.terms["aux_reward"] = plain, -plain.mean()
    if world.discount is not None:
        targets = discounts(segments, config)
        lost.terms["discount"] = F.binary_cross_entropy_with_logits(world.discount(features_BTZ), targets)
    return replace(lost, paid=paid, reward_targets=targets_BM, reward_means=means_BM)


def compared_by_bonus(config: DreamerConfig, observed: Observed) -> Tensor:
    """Of what a bonus tells whether it is new, (B, T, numbers) without gradient: embedded frames, or features, of the
    lower model where there is one.
    """
    if config.bonus_of == "embedding":
        return observed.embedded_BTE.detach()
    return (observed.posterior if observed.first is None else observed.first[0]).feature.detach()


def bent(rewards: Tensor, config: DreamerConfig) -> Tensor:
    """Rewards as they are learned."""
    divided = rewards.float() / config.reward_unit
    bending = {"tanh": torch.tanh, "sign": torch.sign}
    return bending[config.rewards](divided) if config.rewards in bending else divided


def discounts(segments: Segments, config: DreamerConfig) -> Tensor:
    """What counts of what follows each step, (B, T): nothing behind a true end. Raises ValueError without ends."""
    if segments.ends_BT is None:
        raise ValueError("Segments without ends: an agent with ends=true learns them")
    return config.behaviour.discount * (~segments.ends_BT.bool()).float()
