"""JOWA's two objectives: the world model alone, and the world model with C51 and CQL on the Q head.

Shapes: B segments, T steps, K tokens a frame, A actions, Z atoms, G games. Source: arXiv 2410.00564, section 3.2.
Both run under bfloat16 autocast: every softmax, logarithm and projection is float32.
"""

import torch
from torch import Tensor

from models.api import Batch, Losses
from models.jowa.config import JowaConfig
from models.jowa.model import ALL_HEADS, WORLD_HEADS, Jowa, Outputs
from models.losses.c51 import bellman_target, cross_entropy, expectation, mixture, support
from models.losses.cql import data_value, overestimation
from models.losses.masked import masked_mean
from models.losses.world_model import end_loss, observation_loss, reward_loss


def sequence(batch: Batch) -> Tensor:
    """Tokens (B, T * (K + 1)) of each step's observation and action. Raises ValueError for a batch without tokens."""
    if batch.tokens_BTK is None:
        raise ValueError("The batch has frames but no tokens: encode them with the tokenizer first")
    return torch.cat([batch.tokens_BTK, batch.actions_BT[..., None]], dim=2).flatten(1)


def world_loss(model: Jowa, batch: Batch) -> Losses:
    """Stage 1: cross entropies of the next observation tokens, the reward's sign and the end. Terms by those names."""
    terms = _world_terms(model(sequence(batch), batch.games_B, heads=WORLD_HEADS), batch)
    return _losses(sum(terms.values(), torch.zeros_like(terms["ends"])), terms)


def world_action_loss(model: Jowa, batch: Batch, legal_mask_GA: Tensor) -> Losses:
    """Stage 2: world_weight * stage 1 + td + cql_weight * cql.

    legal_mask_GA: (num_games, num_actions) bool, the actions that each game has; others are no greedy choice in the
    Bellman target. Terms: observations, rewards, ends, td, cql, and the penalty's two sides, q_logsumexp and q_taken.
    Raises ValueError for another shape of the mask.
    """
    config = model.config
    if legal_mask_GA.shape != (config.num_games, config.num_actions) or legal_mask_GA.dtype != torch.bool:
        raise ValueError(
            f"Legal mask {tuple(legal_mask_GA.shape)} of {legal_mask_GA.dtype}: "
            f"give bool ({config.num_games}, {config.num_actions})"
        )
    outputs = model(sequence(batch), batch.games_B, heads=ALL_HEADS)
    terms = _world_terms(outputs, batch)
    world = sum(terms.values(), torch.zeros_like(terms["ends"]))
    atoms_Z = support(config.value_min, config.value_max, config.atoms, batch.actions_BT.device)
    probs_BTAZ = mixture(outputs.logits["q"])
    target_BTAZ = mixture(outputs.logits["q_target"])
    terms["td"] = td_loss(probs_BTAZ, target_BTAZ, batch, legal_mask_GA[batch.games_B], atoms_Z, config)
    values_BTA = expectation(probs_BTAZ, atoms_Z)
    terms["q_logsumexp"] = overestimation(values_BTA, batch.mask_BT)
    terms["q_taken"] = data_value(values_BTA, batch.actions_BT, batch.mask_BT)
    terms["cql"] = terms["q_logsumexp"] - terms["q_taken"]
    return _losses(config.world_weight * world + terms["td"] + config.cql_weight * terms["cql"], terms)


def td_loss(
    probs_BTAZ: Tensor, target_BTAZ: Tensor, batch: Batch, legal_BA: Tensor, atoms_Z: Tensor, config: JowaConfig
) -> Tensor:
    """Cross entropy of the taken action's distribution with its Bellman target, a mean over pairs; a scalar.

    A pair is a real step with a real successor in the segment, or a real step that ends the game (target r alone).
    The successor's action is the greedy legal one of the same averaged target distribution.
    """
    ends_BT = batch.ends_BT.bool() & batch.mask_BT
    followed_BT = torch.zeros_like(batch.mask_BT)
    followed_BT[:, :-1] = batch.mask_BT[:, :-1] & batch.mask_BT[:, 1:]
    predicted_BTZ = _take(probs_BTAZ, batch.actions_BT)
    with torch.no_grad():
        values_BTA = expectation(target_BTAZ, atoms_Z).masked_fill(~legal_BA[:, None], -torch.inf)
        greedy_BTZ = _take(target_BTAZ, values_BTA.argmax(-1))
        # The last step has no successor; where it is a pair it ends the game, and any distribution will do.
        next_BTZ = greedy_BTZ.roll(-1, dims=1)
        bellman_BTZ = bellman_target(batch.rewards_BT, ~ends_BT, next_BTZ, atoms_Z, config.gamma)
    return masked_mean(cross_entropy(bellman_BTZ, predicted_BTZ), followed_BT | ends_BT)


def _take(probs_BTAZ: Tensor, actions_BT: Tensor) -> Tensor:  # (B, T, Z)
    index = actions_BT[..., None, None].expand(-1, -1, 1, probs_BTAZ.shape[-1])
    return probs_BTAZ.gather(2, index)[:, :, 0]


def _world_terms(outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
    assert batch.tokens_BTK is not None, "sequence() has checked it"
    return {
        "observations": observation_loss(outputs.logits["observations"], batch.tokens_BTK, batch.mask_BT),
        "rewards": reward_loss(outputs.logits["rewards"], batch.rewards_BT, batch.mask_BT),
        "ends": end_loss(outputs.logits["ends"], batch.ends_BT, batch.mask_BT),
    }


def _losses(total: Tensor, terms: dict[str, Tensor]) -> Losses:
    return Losses(total, {name: term.detach() for name, term in terms.items()})
