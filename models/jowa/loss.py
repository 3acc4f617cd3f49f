"""JOWA's two objectives: the world model alone, and the world model with TD learning and a penalty on the Q head.

What the Q heads say is a categorical distribution of returns (C51), or a scalar. Both kinds of `Critic` combine the
ensemble's members into a prediction (B, T, A, Z), read values from it, form a Bellman target from a successor's
prediction, and measure the distance between the two.

A batch may be spread over processes or be taken in parts. Each part then divides its sums by the counts of the whole
batch (`LossCounts`), so that totals and gradients of the parts add up to the batch's, however uneven the padding is.

Shapes: B segments, T steps, K tokens a frame, A actions, Z atoms (1 for a scalar), G games, Q members. Source: arXiv
2410.00564, section 3.2. All run under bfloat16 autocast: every softmax, logarithm and projection is float32.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from models.api import Batch, Losses
from models.jowa.config import JowaConfig
from models.jowa.model import ALL_HEADS, STATE_HEADS, WORLD_HEADS, Jowa, Outputs
from models.losses.returns import lambda_returns, n_step
from models.losses.segments import (
    bellman_value,
    c51_bellman_target,
    c51_cross_entropy,
    c51_expectation,
    c51_mixture,
    c51_of_value,
    c51_support,
    data_value,
    end_loss,
    expectile_weights,
    half_squared_error,
    masked_mean,
    observation_loss,
    overestimation,
    reward_loss,
    weighted_mean,
)

# ---- what the Q heads say ----


class Critic(Protocol):
    """A kind of Q. `weights_Q` are a random mixture's; without them members count alike."""

    def combine(self, logits_QBTAZ: Tensor, weights_Q: Tensor | None = None) -> Tensor:
        """The ensemble's prediction (B, T, A, Z)."""
        ...

    def values(self, prediction_BTAZ: Tensor) -> Tensor:
        """Expected return (...) of a prediction (..., Z)."""
        ...

    def target(self, rewards_BT: Tensor, discounts_BT: Tensor, next_BTZ: Tensor) -> Tensor:
        """Bellman target (B, T, Z) from the prediction of where the rewards lead, for its greedy action."""
        ...

    def certain(self, values_BT: Tensor) -> Tensor:
        """The prediction (B, T, Z) of one who knows the returns (B, T)."""
        ...

    def error(self, target_BTZ: Tensor, predicted_BTZ: Tensor) -> Tensor:
        """What temporal-difference learning minimises, of every step (B, T)."""
        ...


@dataclass(frozen=True)
class Categorical:
    """C51: members are mixed as probabilities, the error is the cross entropy."""

    atoms_Z: Tensor

    def combine(self, logits_QBTAZ: Tensor, weights_Q: Tensor | None = None) -> Tensor:
        return c51_mixture(logits_QBTAZ, weights_Q)

    def values(self, prediction_BTAZ: Tensor) -> Tensor:
        return c51_expectation(prediction_BTAZ, self.atoms_Z)

    def target(self, rewards_BT: Tensor, discounts_BT: Tensor, next_BTZ: Tensor) -> Tensor:
        return c51_bellman_target(rewards_BT, discounts_BT, next_BTZ, self.atoms_Z)

    def certain(self, values_BT: Tensor) -> Tensor:
        return c51_of_value(values_BT, self.atoms_Z)

    def error(self, target_BTZ: Tensor, predicted_BTZ: Tensor) -> Tensor:
        return c51_cross_entropy(target_BTZ, predicted_BTZ)


@dataclass(frozen=True)
class Scalar:
    """One number an action: members are averaged, the error is half its square."""

    def combine(self, logits_QBTAZ: Tensor, weights_Q: Tensor | None = None) -> Tensor:
        return weighted_mean(logits_QBTAZ.float(), weights_Q)

    def values(self, prediction_BTAZ: Tensor) -> Tensor:
        return prediction_BTAZ[..., 0]

    def target(self, rewards_BT: Tensor, discounts_BT: Tensor, next_BTZ: Tensor) -> Tensor:
        return bellman_value(rewards_BT, discounts_BT, next_BTZ[..., 0])[..., None]

    def certain(self, values_BT: Tensor) -> Tensor:
        return values_BT[..., None]

    def error(self, target_BTZ: Tensor, predicted_BTZ: Tensor) -> Tensor:
        return half_squared_error(target_BTZ[..., 0], predicted_BTZ[..., 0])


def critic_of(config: JowaConfig, device: torch.device | None = None) -> Critic:
    """The kind of Q that a configuration asks for."""
    if config.critic == "mse":
        return Scalar()
    return Categorical(c51_support(config.value_min, config.value_max, config.atoms, device))


def expected_values(logits_QBTAZ: Tensor, config: JowaConfig) -> Tensor:
    """Expected return float32 of the ensemble's mean: (B, T, A), or (B, T) of logits (Q, B, T, Z).

    With `pessimism`, less that many standard deviations over its members, whom data that they lack sets apart.
    """
    critic = critic_of(config, logits_QBTAZ.device)
    mean = critic.values(critic.combine(logits_QBTAZ))
    if not config.pessimism:
        return mean
    members = torch.stack([critic.values(critic.combine(one[None])) for one in logits_QBTAZ])
    return mean - config.pessimism * members.std(0, correction=0)


# ---- the objectives ----


@dataclass(frozen=True)
class LossCounts:
    """How many entries each loss term of a batch is a mean over: float64 scalars, read from the masks alone."""

    observations: Tensor  # predicted tokens
    real: Tensor  # steps that are neither padding nor imagined
    pairs: Tensor  # pairs of steps for TD learning
    steps: Tensor  # steps that are no padding

    @classmethod
    def of(cls, batch: Batch, tokens_per_frame: int) -> "LossCounts":
        """The counts of one batch (which may be part of a larger one)."""
        real_BT = batch.real_mask()
        found = (
            real_BT.sum() * tokens_per_frame - real_BT[:, 0].sum(),  # a segment's first token has no prediction
            real_BT.sum(),
            pair_mask(batch).sum(),
            batch.mask_BT.sum(),
        )
        return cls(*(count.double() for count in found))

    def as_tensor(self) -> Tensor:
        """(4,) float64, to be summed over processes in one message."""
        return torch.stack([self.observations, self.real, self.pairs, self.steps])

    @classmethod
    def from_tensor(cls, counts_4: Tensor) -> "LossCounts":
        """The counts that `as_tensor` wrote."""
        return cls(*counts_4)


def pair_mask(batch: Batch) -> Tensor:
    """(B, T) bool: real steps with a real successor in the segment, and real steps that end the game."""
    followed_BT = torch.zeros_like(batch.mask_BT)
    followed_BT[:, :-1] = batch.mask_BT[:, :-1] & batch.mask_BT[:, 1:]
    return followed_BT | (batch.ends_BT.bool() & batch.mask_BT)


def sequence(batch: Batch) -> Tensor:
    """Tokens (B, T * (K + 1)) of each step's observation and action. Raises ValueError for a batch without tokens."""
    if batch.tokens_BTK is None:
        raise ValueError("The batch has frames but no tokens: encode them with the tokenizer first")
    return torch.cat([batch.tokens_BTK, batch.actions_BT[..., None]], dim=2).flatten(1)


def world_loss(model: Jowa, batch: Batch, counts: LossCounts | None = None) -> Losses:
    """Stage 1: cross entropies of the next observation tokens, the reward's sign and the end. Terms by those names.

    Imagined segments are left out: a model learns nothing about the world from its own dreams.
    counts: those of the whole batch where `batch` is a part of one; the parts' losses then add up to its loss.
    """
    counts = counts or LossCounts.of(batch, model.config.tokens_per_frame)
    terms = _world_terms(model(sequence(batch), batch.games_B, heads=WORLD_HEADS), batch, counts)
    return _losses(sum(terms.values(), torch.zeros_like(terms["ends"])), terms)


def world_action_loss(
    model: Jowa,
    batch: Batch,
    legal_mask_GA: Tensor,
    mixture_weights_Q: Tensor | None = None,
    counts: LossCounts | None = None,
    step: int = 0,
) -> Losses:
    """Stage 2: world_weight * stage 1 + td + cql_weight * cql, the last unless the penalty is "none".

    With a value of states, + state_value * its error (`state_value_loss`), which is no part of the original.

    legal_mask_GA: (num_games, num_actions) bool, the actions that each game has; others are no greedy choice in the
    Bellman target. mixture_weights_Q: this step's weights (see `mixture_weights`) where `random_mixture` is on.
    counts: as in `world_loss`. step: of the training, for the penalty's weight.
    Terms: observations, rewards, ends, td, with a penalty cql and its two sides, q_logsumexp and q_taken, and v.
    Raises ValueError for another shape of the mask, or for weights that the configuration does not ask for.
    """
    config = model.config
    if legal_mask_GA.shape != (config.num_games, config.num_actions) or legal_mask_GA.dtype != torch.bool:
        raise ValueError(
            f"Legal mask {tuple(legal_mask_GA.shape)} of {legal_mask_GA.dtype}: "
            f"give bool ({config.num_games}, {config.num_actions})"
        )
    if (mixture_weights_Q is not None) != config.random_mixture:
        raise ValueError(
            f"random_mixture is {config.random_mixture}: give a step's mixture weights if, and only if, it is on"
        )
    counts = counts or LossCounts.of(batch, config.tokens_per_frame)
    heads = (*ALL_HEADS, *STATE_HEADS) if config.state_value else ALL_HEADS
    outputs = model(sequence(batch), batch.games_B, heads=heads)
    terms = _world_terms(outputs, batch, counts)
    total = config.world_weight * sum(terms.values(), torch.zeros_like(terms["ends"]))
    critic = critic_of(config, batch.actions_BT.device)
    predicted_BTAZ = critic.combine(outputs.logits["q"], mixture_weights_Q)
    target_BTAZ = critic.combine(outputs.logits["q_target"], mixture_weights_Q)
    legal_BA = legal_mask_GA[batch.games_B]
    terms["td"] = td_loss(predicted_BTAZ, target_BTAZ, batch, legal_BA, critic, config, counts.pairs)
    total = total + terms["td"]
    if config.penalty != "none":
        combo = config.penalty == "combo"
        data_BT, data_count = (batch.real_mask(), counts.real) if combo else (batch.mask_BT, counts.steps)
        mean_BTA = critic.values(critic.combine(outputs.logits["q"]))  # the plain mean, whatever the mixture is
        terms["q_logsumexp"] = overestimation(mean_BTA, batch.mask_BT, counts.steps)
        terms["q_taken"] = data_value(critic.values(predicted_BTAZ), batch.actions_BT, data_BT, data_count)
        terms["cql"] = terms["q_logsumexp"] - terms["q_taken"]
        total = total + penalty_weight(config, step) * terms["cql"]
    if config.state_value:
        terms["v"] = state_value_loss(outputs, batch, critic, config, counts.pairs)
        total = total + config.state_value * terms["v"]
    return _losses(total, terms)


def penalty_weight(config: JowaConfig, step: int) -> float:
    """What the penalty weighs at a step, counted from 0: `cql_weight`, which may go to `cql_last` in a line."""
    if not config.cql_steps:
        return config.cql_weight
    return config.cql_weight + min(1.0, step / config.cql_steps) * (config.cql_last - config.cql_weight)


def td_loss(
    predicted_BTAZ: Tensor,
    target_BTAZ: Tensor,
    batch: Batch,
    legal_BA: Tensor,
    critic: Critic,
    config: JowaConfig,
    count: Tensor | None = None,
) -> Tensor:
    """The critic's error of the taken action's prediction against its Bellman target, a mean over pairs; a scalar.

    A pair is a real step with a real successor in the segment, or a real step that ends the game (target r alone).
    The successor's action is the greedy legal one of the same averaged target prediction. With `n_step` above 1 the
    successor is that many steps ahead, or as many as the segment holds.
    """
    pairs_BT, ends_BT = pair_mask(batch), batch.ends_BT.bool() & batch.mask_BT
    taken_BTZ = _take(predicted_BTAZ, batch.actions_BT)
    with torch.no_grad():
        values_BTA = critic.values(target_BTAZ).masked_fill(~legal_BA[:, None], -torch.inf)
        greedy_BTZ = _take(target_BTAZ, values_BTA.argmax(-1))
        rewards_BT, discounts_BT, after_BT = n_step(batch.rewards_BT, ends_BT, pairs_BT, config.gamma, config.n_step)
        next_BTZ = greedy_BTZ.gather(1, after_BT[..., None].expand_as(greedy_BTZ))
        bellman_BTZ = critic.target(rewards_BT, discounts_BT, next_BTZ)
    return masked_mean(critic.error(bellman_BTZ, taken_BTZ), pairs_BT, count)


def state_value_loss(
    outputs: Outputs, batch: Batch, critic: Critic, config: JowaConfig, count: Tensor | None = None
) -> Tensor:
    """The critic's error of V against an expectile of lambda-returns of its target head, a mean over pairs; a scalar.

    Pairs are those of `td_loss`. V is what the data's own actions bring: no action is chosen, none is penalised.
    """
    predicted_BTZ = critic.combine(outputs.logits["v"])
    with torch.no_grad():
        bootstrap_BT = critic.values(critic.combine(outputs.logits["v_target"]))
        pairs_BT, ends_BT = pair_mask(batch), batch.ends_BT.bool() & batch.mask_BT
        returns_BT = lambda_returns(batch.rewards_BT, ends_BT, bootstrap_BT, config.gamma, config.trace, pairs_BT)
        weights_BT = expectile_weights(returns_BT, critic.values(predicted_BTZ), config.expectile)
    return masked_mean(weights_BT * critic.error(critic.certain(returns_BT), predicted_BTZ), pairs_BT, count)


def _take(prediction_BTAZ: Tensor, actions_BT: Tensor) -> Tensor:  # (B, T, Z)
    index = actions_BT[..., None, None].expand(-1, -1, 1, prediction_BTAZ.shape[-1])
    return prediction_BTAZ.gather(2, index)[:, :, 0]


def _world_terms(outputs: Outputs, batch: Batch, counts: LossCounts) -> dict[str, Tensor]:
    assert batch.tokens_BTK is not None, "sequence() has checked it"
    real_BT = batch.real_mask()
    return {
        "observations": observation_loss(
            outputs.logits["observations"], batch.tokens_BTK, real_BT, counts.observations
        ),
        "rewards": reward_loss(outputs.logits["rewards"], batch.rewards_BT, real_BT, counts.real),
        "ends": end_loss(outputs.logits["ends"], batch.ends_BT, real_BT, counts.real),
    }


def _losses(total: Tensor, terms: dict[str, Tensor]) -> Losses:
    return Losses(total, {name: term.detach() for name, term in terms.items()})
