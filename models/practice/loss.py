"""What a world model of tokens loses, and what an actor-critic learns from a rollout that it imagined in one.

Source: arXiv 2209.00588, sections 2.2 and 2.3, appendix A.3. A batch of segments may be taken in parts, whose totals
and gradients add up. Shapes: B segments of T steps and K tokens a frame, S = T * K, V vocabulary; N rows, H imagined
steps.
"""

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from models.api import Batch, Losses, weighted
from models.losses.returns import entropy, lambda_returns, policy_gradient, value_error
from models.losses.segments import end_loss, masked_mean, observation_errors, reward_errors, row_means
from models.practice.bins import Bins, ReturnScale
from models.practice.config import ActorConfig
from models.practice.imagination import Rollout
from models.practice.world import Outputs

Errors = tuple[Tensor, Tensor]
"""what each place lost, and which of them count: of the same shape, float32 and bool"""


def token_world_loss(
    outputs: Outputs,
    batch: Batch,
    learned_BT: Tensor,
    counts_2: Tensor,
    rewarded: Callable[[Tensor, Tensor], Tensor] = reward_errors,
    curious: Callable[[Tensor], Tensor] | None = None,
) -> Losses:
    """observations + rewards + ends + curiosity: cross entropies of tokens, rewards, the end, and of an ensemble's.

    Only steps are learned from where `learned` is True. counts: such tokens and steps of the whole batch. rewarded:
    what a head of rewards loses (B, T), of its outputs and points; by default of classes of signs. curious: what each
    row's own member of an ensemble says (B, S, V) of `Outputs.latents`; None: none learns. Rows tell what a segment's
    observations and rewards lost, each a mean over what is learned (Simulus, arXiv 2502.11537: by these it is drawn
    again). Raises ValueError for a batch without tokens.
    """
    tokens_BTK, curiosity = require_tokens(batch), None
    seen = observation_errors(outputs.observations_BSV, tokens_BTK, learned_BT, outputs.ahead)
    earned_BT = rewarded(outputs.rewards_BTV, batch.rewards_BT)
    if curious is not None and outputs.latents_BSD is not None:
        curiosity = observation_errors(curious(outputs.latents_BSD), tokens_BTK, learned_BT, outputs.ahead)
    return world_losses(batch, counts_2, seen, (earned_BT, learned_BT), outputs.ends_BT2, curiosity)


def world_losses(
    batch: Batch, counts_2: Tensor, seen: Errors, earned: Errors, ends_BT2: Tensor, curiosity: Errors | None
) -> Losses:
    """The sum of what was lost of tokens, `seen` (B, S), of rewards, `earned` (B, T), of ends where these are learned,
    and of an ensemble's tokens. counts: tokens and steps that are learned in the whole batch; rows: see above.
    """
    tokens, steps = counts_2
    known_BT = earned[1]
    terms = {
        "observations": masked_mean(*seen, tokens),
        "rewards": masked_mean(*earned, steps),
        "ends": end_loss(ends_BT2, batch.ends_BT, known_BT, steps),
    }
    if curiosity is not None:
        terms["curiosity"] = masked_mean(*curiosity, tokens)
    return replace(weighted(terms, dict.fromkeys(terms, 1.0)), rows_B=row_means(*seen) + row_means(*earned))


def require_tokens(batch: Batch) -> Tensor:
    """A batch's tokens (B, T, K). Raises ValueError where it has none."""
    if batch.tokens_BTK is None:
        raise ValueError("The batch has frames but no tokens: encode them with the tokenizer first")
    return batch.tokens_BTK


def actor_critic_loss(
    rollout: Rollout,
    config: ActorConfig,
    bins: Bins | None = None,
    scale: ReturnScale | None = None,
    last_entropy: bool = False,
) -> Losses:
    """actions + value * values - entropy * entropy, means over rows and the first H - 1 steps.

    The value of the last state is where returns begin, so its own step is not learned from. Steps after an imagined end
    count like others, as in the original. A rollout's mean sum of rewards is told beside the terms.
    bins: of a critic with bins, which learns returns as classes. scale: what advantages are divided by, which remembers
    the returns. last_entropy: whether the entropy's mean is over all H steps, as Simulus has it.
    """
    returns_NH = lambda_returns(
        rollout.rewards_NH, rollout.ends_NH, rollout.values_NH.detach(), config.gamma, config.lambda_
    )
    learned = slice(None, -1)
    logits_NHA, values_NH = rollout.logits_NHA[:, learned], rollout.values_NH[:, learned]
    advantages_NH = returns_NH[:, learned] - values_NH
    if scale is not None:
        advantages_NH = advantages_NH / scale(returns_NH[:, learned])
    if bins is not None and rollout.critic_NHZ is not None:
        values = bins.errors(rollout.critic_NHZ[:, learned], returns_NH[:, learned]).mean()
    else:
        values = value_error(values_NH, returns_NH[:, learned])
    terms = {
        "actions": policy_gradient(logits_NHA, rollout.actions_NH[:, learned], advantages_NH),
        "values": values,
        "entropy": entropy(rollout.logits_NHA if last_entropy else logits_NHA),
    }
    losses = weighted(terms, {"actions": 1.0, "values": config.value, "entropy": -config.entropy})
    return replace(losses, terms={**losses.terms, "imagined_return": rollout.rewards_NH.sum(1).mean()})
