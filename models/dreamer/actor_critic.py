"""An actor and a critic that learn from what a world imagines, as DreamerV2 has them for continuous actions.

The actor follows the gradient of returns through the imagined world; the critic learns these returns, and a copy that
follows it from time to time tells what lies behind the horizon. Source: arXiv 2010.02193, section 2.2.

Shapes: N rows, H imagined steps, H + 1 states of which the first is where imagination begins, A numbers of an action.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.dreamer.config import DreamerConfig
from models.dreamer.world_model import WorldModel, initialise
from models.losses.returns import weighted_lambda_returns
from models.rssm.bonus import StreamNorm
from models.rssm.chance import Numbers
from models.rssm.heads import BoundedGaussian, Number, Policy, log_chance
from models.rssm.model import State, stacked


class ActorCritic(nn.Module):
    """`seed` fixes the first weights; the target begins as the critic."""

    updates: Tensor

    def __init__(self, config: DreamerConfig, seed: int = 0) -> None:
        super().__init__()
        self.config, feature = config.behaviour, config.rssm.feature
        with torch.random.fork_rng(devices=[]):
            self.actor = Policy(self.config.actor, feature, config.actions)
            self.critic = Number(self.config.critic, feature)
        initialise(self, torch.Generator().manual_seed(seed))
        self.target = deepcopy(self.critic).requires_grad_(False)
        self.reward_norm = StreamNorm(self.config.reward_momentum)
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def follow(self) -> None:
        """After each update: the target goes towards the critic when its turn has come, the first time all the way."""
        if int(self.updates) % self.config.target_every == 0:
            share = self.config.target_share if int(self.updates) else 1.0
            for mine, theirs in zip(self.target.parameters(), self.critic.parameters(), strict=True):
                mine.lerp_(theirs, share)
        self.updates += 1


@dataclass(frozen=True)
class Imagined:
    """A rollout: H + 1 states and the actions (N, H + 1, A) that led to them, of which the first is zeros.

    features: (N, H + 1, Z). policy: of the first H states, from which the actions were drawn.
    """

    steps: Sequence[State]
    features: Tensor
    actions_NHA: Tensor
    discounts_NH: Tensor  # of what follows each state
    policy: BoundedGaussian

    @property
    def states(self) -> State:
        """(N, H + 1, ...)."""
        return stacked(self.steps)

    @property
    def weights(self) -> Tensor:
        """How much each state counts, (N, H + 1): the discounts before it, multiplied. No gradient."""
        before = torch.cat([torch.ones_like(self.discounts_NH[:, :1]), self.discounts_NH[:, :-1]], dim=1)
        return before.cumprod(1).detach()


@dataclass(frozen=True)
class Learned:
    """Both losses with their graphs, and what they are made of; see `Imagined` for shapes.

    returns: before an entropy bonus is added. targets: what the critic learns.
    """

    actor: Tensor
    critic: Tensor
    rewards_NH: Tensor
    normed_NH: Tensor
    slow_NH: Tensor
    returns_NH: Tensor
    targets_NH: Tensor
    values_NH: Tensor
    entropies_NH: Tensor
    policy: BoundedGaussian


def imagine(
    world: WorldModel, actor: Policy, start: State, ends_N: Tensor | None, horizon: int, draws: Numbers
) -> Imagined:
    """A rollout from states (N, ...), with a gradient through the world to every action.

    ends: bool, which rows begin at a true end: nothing behind it counts, where the world tells of ends. An actor reads
    states without gradient.
    """
    states, features = [start], [start.feature]
    actions = [torch.zeros(len(start.deter), actor.out.out_features, device=start.deter.device)]
    layers, policies = world.rssm.layers(prior=True), list[BoundedGaussian]()
    for _ in range(horizon):
        policies.append(actor.policy(features[-1].detach()))
        actions.append(policies[-1].draw(draws.uniform("action", policies[-1].mean)))
        states.append(world.imagine_step(states[-1], actions[-1], draws, layers))
        features.append(states[-1].feature)
    features_NHZ = torch.stack(features, dim=1)
    discount = world.config.behaviour.discount
    if world.discount is None:
        discounts_NH = torch.full(features_NHZ.shape[:2], discount, device=start.deter.device)
    else:
        discounts_NH = world.discount(features_NHZ).sigmoid()
        if ends_N is not None:
            known_N1 = discount * (~ends_N.bool()).float()[:, None]
            discounts_NH = torch.cat([known_N1, discounts_NH[:, 1:]], dim=1)
    policy = BoundedGaussian.stacked(policies)
    return Imagined(states, features_NHZ, torch.stack(actions, dim=1), discounts_NH, policy)


def actor_critic_loss(
    world: WorldModel, networks: ActorCritic, imagined: Imagined, entropy_in_targets: bool
) -> Learned:
    """What both lose on a rollout. entropy_in_targets: see `Faults`."""
    config, features = networks.config, _as_read(imagined.features)
    if world.reward is None:
        raise ValueError("A world without rewards gives an actor nothing to learn: fine-tune it first")
    rewards_NH = world.reward(features)
    networks.reward_norm.follow(rewards_NH)
    normed_NH, slow_NH = networks.reward_norm(rewards_NH), networks.target(features)
    returns_NH = weighted_lambda_returns(normed_NH, imagined.discounts_NH, slow_NH, config.lambda_)
    policy = imagined.policy.before_last()
    entropies_NH = policy.entropy()
    objective_NH = returns_NH[:, 1:] + config.entropy * entropies_NH
    actor = -(imagined.weights[:, :-2] * objective_NH).mean()
    targets_NH = returns_NH.detach()
    if entropy_in_targets:
        targets_NH = torch.cat([targets_NH[:, :1], objective_NH.detach()], dim=1)
    values_NH = networks.critic(features[:, :-1].detach())
    critic = -(imagined.weights[:, :-1] * log_chance(values_NH, targets_NH)).mean()
    return Learned(
        actor, critic, rewards_NH, normed_NH, slow_NH, returns_NH.detach(), targets_NH, values_NH, entropies_NH, policy
    )


def _as_read(features: Tensor) -> Tensor:
    """Rounded once where autocast would round them for every head."""
    kind = features.device.type
    return features.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else features
