"""The Dreamer family the plain way, as its papers' code computes: what `worldline bench dreamer` compares ours with.

Step by step through time, each with its prior, from which a sample is drawn that nobody reads; what a layer reads is
put side by side first; states are masked by products. Encoder, decoder and heads see whole sequences there too, in
PyTorch's layers, with pixels' channels side by side. A policy is computed as it acts, and again for its entropy. The
weights are those of a world of ours, of which this is a copy. Sources: arXiv 2010.02193, the code of APV and PreLAR.

Shapes: N rows, H imagined steps, A numbers of an action, Z of a feature; otherwise as in `models/dreamer/world_model`.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from models.cpu import shortcuts
from models.dreamer.actor_critic import ActorCritic, Imagined
from models.dreamer.config import ADAM_EPS
from models.dreamer.loss import Lost, world_loss
from models.dreamer.world_model import FIRST_POSTERIOR, POSTERIOR, Observed, Segments, WorldModel, centred
from models.losses.returns import weighted_lambda_returns
from models.rssm.chance import Draws, Numbers
from models.rssm.heads import BoundedGaussian, log_chance
from models.rssm.model import Layers, Rssm, State, stacked

UNREAD = "unread"  # the stream of samples of priors that nobody reads


def prior_step(rssm: Rssm, state: State, actions: Tensor | None, draws: Numbers, what: str = UNREAD) -> State:
    """The next state as expected after actions (N, A), padded to the room that there is for them."""
    if actions is None or not rssm.acts:
        actions = state.sample.new_zeros(len(state.sample), rssm.actions)
    actions = F.pad(actions, (0, rssm.actions - actions.shape[-1]))
    x = F.elu(rssm.inward(torch.cat([state.sample, actions], dim=-1)))
    parts = rssm.cell.norm(rssm.cell.layer(torch.cat([x, state.deter], dim=-1)))
    reset, candidate, update = parts.chunk(3, dim=-1)
    new, kept = torch.tanh(reset.sigmoid() * candidate), (update - 1).sigmoid()
    deter = kept * new + (1 - kept) * state.deter
    stats = rssm.kind.read(rssm.prior_head(F.elu(rssm.prior_hidden(deter))))
    return State(stats, rssm.kind.draw(stats, draws, what), deter)


def observe(
    rssm: Rssm, embedded_BTE: Tensor, actions_BTA: Tensor | None, first_BT: Tensor, draws: Draws, what: str
) -> tuple[State, Tensor]:
    """Posteriors and priors' statistics of sequences, one step after another."""
    state, posteriors, priors = rssm.start(len(embedded_BTE)), [], []
    for step in range(embedded_BTE.shape[1]):
        kept = 1 - first_BT[:, step].float()[:, None]
        state = State(state.stats * kept[..., None], state.sample * kept, state.deter * kept)
        told = None if actions_BTA is None else actions_BTA[:, step] * kept
        prior = prior_step(rssm, state, told, draws)
        x = F.elu(rssm.post_hidden(torch.cat([prior.deter, embedded_BTE[:, step]], dim=-1)))
        stats = rssm.kind.read(rssm.post_head(x))
        state = State(stats, rssm.kind.draw(stats, draws, what), prior.deter)
        posteriors.append(state)
        priors.append(prior.stats)
    return stacked(posteriors), torch.stack(priors, dim=1)


class PlainWorld(WorldModel):
    """A copy of a world that computes plainly."""

    def __init__(self, world: WorldModel) -> None:
        nn.Module.__init__(self)
        self.__dict__.update(copy.deepcopy(world).__dict__)

    def observe(self, segments: Segments, draws: Draws) -> Observed:
        """See `WorldModel`."""
        frames_BTCRR = centred(segments.frames_BTCRR)
        embedded_BTE, context = self.embed(frames_BTCRR, draws)
        actions_BTA, latent_stats = self.read_actions(frames_BTCRR, segments.actions_BTA, draws)
        read_BTE, first = embedded_BTE, None
        if self.first is not None:
            first = observe(self.first, embedded_BTE, None, segments.first_BT, draws, FIRST_POSTERIOR)
            read_BTE = self.above(first[0].feature, embedded_BTE)
        posterior, prior = observe(self.rssm, read_BTE, actions_BTA, segments.first_BT, draws, POSTERIOR)
        return Observed(embedded_BTE, context, actions_BTA, latent_stats, posterior, prior, first)

    def imagine_step(self, state: State, actions_NA: Tensor, draws: Numbers, layers: Layers | None = None) -> State:
        """See `WorldModel`."""
        return prior_step(self.rssm, state, self.encoded(actions_NA, draws), draws, "prior")


def plain_world_loss(world: PlainWorld, segments: Segments, draws: Draws) -> Lost:
    """All terms of a batch."""
    with shortcuts.off():
        return world_loss(world, segments, draws)


def plain_behaviour_loss(world: PlainWorld, networks: ActorCritic, start: State, draws: Draws) -> tuple[Tensor, Tensor]:
    """What actor and critic lose on a rollout from states (N, ...)."""
    with shortcuts.off():
        imagined = rollout(world, networks, start, draws)
        config, features, weights = networks.config, imagined.features, imagined.weights
        assert world.reward is not None, "who practises has rewards"
        rewards_NH, slow_NH = world.reward(features), networks.target(features)
        networks.reward_norm.follow(rewards_NH)
        normed_NH = networks.reward_norm(rewards_NH)
        returns_NH = weighted_lambda_returns(normed_NH, imagined.discounts_NH, slow_NH, config.lambda_)
        policy = networks.actor.policy(features[:, :-2].detach())
        objective_NH = returns_NH[:, 1:] + config.entropy * policy.entropy()
        actor = -(weights[:, :-2] * objective_NH).mean()
        values_NH = networks.critic(features[:, :-1].detach())
        critic = -(weights[:, :-1] * log_chance(values_NH, returns_NH.detach())).mean()
        return actor, critic


def rollout(world: PlainWorld, networks: ActorCritic, start: State, draws: Draws) -> Imagined:
    """A rollout from states (N, ...)."""
    config, actor = networks.config, networks.actor
    states, actions = [start], [start.deter.new_zeros(len(start.deter), actor.out.out_features)]
    policies = list[BoundedGaussian]()
    for _ in range(config.horizon):
        policies.append(actor.policy(states[-1].feature.detach()))
        actions.append(policies[-1].draw(draws.uniform("action", policies[-1].mean)))
        states.append(world.imagine_step(states[-1], actions[-1], draws))
    sequence = stacked(states)
    discounts_NH = torch.full(sequence.deter.shape[:2], config.discount, device=start.deter.device)
    policy = BoundedGaussian.stacked(policies)
    return Imagined(states, sequence.feature, torch.stack(actions, dim=1), discounts_NH, policy)


def plain_optimiser(module: nn.Module, lr: float, weight_decay: float) -> Optimizer:
    """Adam as PyTorch steps it on a CPU: weight by weight, several passes over each."""
    return Adam(module.parameters(), lr=lr, eps=ADAM_EPS, weight_decay=weight_decay)
