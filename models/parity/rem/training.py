"""REM's imagined rollout with the recorded draws; losses, gradients and an optimiser step of each of its networks.

Every stage begins with the recorded weights. Shapes: N rows, H imagined steps.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from models.api import Losses, Moment
from models.losses.returns import lambda_returns
from models.parity.learning import WORLD_TERMS
from models.parity.rem.case import Case, stacked
from models.parity.stages import Stage, recorded
from models.practice.blocks import learned
from models.practice.loss import actor_critic_loss, token_world_loss
from models.rem.actor_critic import LatentActorCritic
from models.rem.world import RemPlayer
from models.tokenizers.loss import tokenizer_loss

TABLES = ("embedding.weight", "placeholder_embeddings.weight")  # whose gradients are recorded row by row


# ---- imagination ----


@torch.no_grad()
def imagine_outputs(case: Case) -> dict[str, Tensor]:
    """Entries `imagine/*`."""
    config, given = case.config.actor_critic, case.draws()
    rolled, burnt, player = case.agent.practised(case.batch("actor_critic"), Moment(0), given)
    assert isinstance(player, RemPlayer)
    returns_NH = lambda_returns(rolled.rewards_NH, rolled.ends_NH, rolled.values_NH, config.gamma, config.lambda_)
    tokens_NHK = case.golden.tensor("draws/imagine/tokens")
    frames = case.golden.arrays.get("imagine/frames_row0")
    found = {
        "logits_actions": rolled.logits_NHA,
        "values": rolled.values_NH,
        "rewards": rolled.rewards_NH,
        "ends": rolled.ends_NH,
        "logits_rewards": torch.stack(given.logits["rewards"], dim=1),
        "logits_ends": torch.stack(given.logits["ends"], dim=1),
        "logits_tokens": torch.stack(given.logits["tokens"], dim=1),
        "rnn_state_after_burn_in": stacked(burnt),
        "rnn_state_last": stacked(rolled.memory),
        "world_model_states_last": torch.stack(player.retained),
        "world_model_n_last": torch.tensor(player.length),
        "lambda_returns": returns_NH,
        "frames_row0": _frames(case, tokens_NHK, 3 if frames is None else frames.shape[1]),
    }
    if isinstance(case.agent.actor_critic, LatentActorCritic):
        errors_NH = (rolled.values_NH - returns_NH)[:, :-1].square()
        found["per_sample_value_loss"] = errors_NH.mean(1)
    return {f"imagine/{name}": value for name, value in found.items()}


def _frames(case: Case, tokens_NHK: Tensor, count: int) -> Tensor:
    """The first decoded frames of row 0, that from which it imagines among them."""
    start_NTK = case.batch("actor_critic").tokens_BTK
    assert start_NTK is not None
    return case.agent.tokenizer.decode_tokens(torch.cat([start_NTK[:1, -1:], tokens_NHK[:1]], dim=1)[:, :count])


# ---- training ----


def training_outputs(case: Case) -> dict[str, Tensor | np.ndarray]:
    """Entries `loss/*`, `grad*/*` and `after_step/*`."""
    found: dict[str, Tensor | np.ndarray] = {}
    for stage in _stages(case):
        found |= dict(recorded(case.agent, stage, case.training[stage.name]))
        case.restore(stage.name)
    return found


def _stages(case: Case) -> Iterator[Stage]:
    """Each network's: the agent's own losses, but for LPIPS, which is left out and recorded as 0."""
    agent, config = case.agent, case.config
    frames = case.golden.frames("batch/tokenizer/observations").flatten(0, 1)
    batch, actor = case.batch("world_model"), config.actor_critic

    def tokenizer() -> Losses:
        losses = tokenizer_loss(frames, agent.tokenizer(frames), config.weights)
        return Losses(losses.total, {**losses.terms, "lpips": torch.zeros(())})

    def world_model() -> Losses:
        outputs = agent.world_model(batch.tokens_BTK, batch.actions_BT, agent.codes())
        return token_world_loss(outputs, batch, learned(batch, config.world_model.context), agent.world_counts(batch))

    def actor_critic() -> Losses:
        found = agent.practised(case.batch("actor_critic"), Moment(0), case.draws())
        return actor_critic_loss(found.rollout, actor)

    names = {"commitment_loss": "commitment", "reconstruction_loss": "mse", "perceptual_loss": "lpips"}
    yield Stage("tokenizer", tokenizer, {theirs: (ours, 1.0) for theirs, ours in names.items()})
    yield Stage("world_model", world_model, WORLD_TERMS, TABLES)
    terms = {"loss_actions": ("actions", 1.0), "loss_values": ("values", actor.value)}
    yield Stage("actor_critic", actor_critic, terms | {"loss_entropy": ("entropy", -actor.entropy)})
