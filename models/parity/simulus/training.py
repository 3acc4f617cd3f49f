"""Simulus's imagined rollout with the recorded draws; losses, gradients and an optimiser step of each network; replay.

Every stage begins with the recorded weights. Shapes: N rows, H imagined steps, K tokens a frame.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from models.api import Losses, Moment
from models.losses.returns import lambda_returns
from models.parity.learning import WORLD_TERMS, sum_and_norm
from models.parity.simulus.case import Case, Watched, stacked
from models.parity.simulus.networks import played_states
from models.parity.stages import Stage, recorded
from models.practice.bins import ReturnScale
from models.practice.loss import actor_critic_loss
from models.practice.replay import inclusion, prioritised, softmax
from models.simulus.state_dict import theirs
from models.tokenizers.codebook import EMA
from models.tokenizers.loss import tokenizer_loss

FRESH = 10.0  # the loss of what was never drawn
BATCH = 8  # whose empirical frequencies a file records

# ---- imagination ----


@torch.no_grad()
def imagine_outputs(case: Case) -> dict[str, Tensor]:
    """Entries `imagine/*`."""
    agent, config, given = case.agent, case.config.actor_critic, case.draws()
    units: list[Tensor] = []
    watching = agent.actor_critic.critic_linear.register_forward_pre_hook(lambda _, read: units.append(read[0]))
    batch = case.batch("actor_critic")
    agent.beginning(batch, Moment(0))
    context_NLD = agent._player.waiting_NLD
    rolled, burnt, player = agent.practised(batch, Moment(0), given)
    assert isinstance(player, Watched)
    watching.remove()
    model, latents_NHKD = agent.world_model, torch.stack(player.seen, dim=1)
    returns_NH = lambda_returns(rolled.rewards_NH, rolled.ends_NH, rolled.values_NH, config.gamma, config.lambda_)
    scale = agent.actor_critic.return_scale
    assert isinstance(scale, ReturnScale)
    low, high = scale.quantiles(returns_NH[:, :-1].flatten())
    advantages_NH = (returns_NH - rolled.values_NH)[:, :-1] / scale(returns_NH[:, :-1])
    rows = case.kept("imagine/logits_tokens", len(returns_NH))
    found = {
        "log_probs_actions": rolled.logits_NHA.log_softmax(-1),
        "values": rolled.values_NH,
        "latents_critic": torch.stack(units, dim=1),
        "rewards": rolled.rewards_NH,
        "ends": rolled.ends_NH,
        "rewards_extrinsic": model.bins.value(model.head_rewards(latents_NHKD[:, :, -1])),
        "logits_ends": torch.stack(given.logits["ends"], dim=1),
        "logits_tokens": model.head_observations(latents_NHKD[:rows]),
        "rnn_state_after_burn_in": stacked(burnt),
        "rnn_state_last": stacked(rolled.memory),
        "world_model_context": context_NLD,
        "lambda_returns": returns_NH,
        "returns_scale": scale(returns_NH[:, :-1]).double(),
        "return_quantile_high": high,
        "return_quantile_low": low,
        "advantages": advantages_NH,
    }
    if len(model.ensemble):
        found["jensen_shannon"] = model.ensemble.disagreement(latents_NHKD)
    return {f"imagine/{name}": value for name, value in (found | played_states(player)).items()}


# ---- training ----


def training_outputs(case: Case) -> dict[str, Tensor | np.ndarray]:
    """Entries `loss/*`, `grad*/*`, `after_step/*`, `optimiser/*` and `ema/*`."""
    found: dict[str, Tensor | np.ndarray] = {}
    rows: dict[str, Tensor | None] = {}
    for stage in _stages(case, rows):
        case.agent.networks[stage.name].train()
        found |= dict(recorded(case.agent, stage, case.training[stage.name], theirs))
        if stage.name == "tokenizer":
            found |= _codebook(case)
        case.restore(stage.name)
    priority_B = rows["world_model"]
    assert priority_B is not None
    found["loss/world_model/per_sample_priority"] = priority_B
    return found | {"optimiser/world_model_decayed": decayed(case)}


def _stages(case: Case, rows: dict[str, Tensor | None]) -> Iterator[Stage]:
    """Each network's: the agent's own losses, but for LPIPS, which is left out. rows: what segments lost, by stage."""
    agent, config = case.agent, case.config
    frames = case.golden.frames("batch/tokenizer/observations").flatten(0, 1)
    batch, actor = case.batch("world_model"), config.actor_critic

    def tokenizer() -> Losses:
        return tokenizer_loss(frames, agent.tokenizer(frames), config.weights)

    def world_model() -> Losses:
        losses = agent.world_loss(batch, agent.world_counts(batch), Moment(0, 0, len(batch.actions_BT)))
        rows["world_model"] = losses.rows_B
        return losses

    def actor_critic() -> Losses:
        found, ours = agent.practised(case.batch("actor_critic"), Moment(0), case.draws()), agent.actor_critic
        return actor_critic_loss(found.rollout, actor, ours.bins, ours.return_scale, agent.last_entropy)

    committed = {"commitment_loss": ("commitment", 1.0)} if config.weights.commitment else {}
    yield Stage("tokenizer", tokenizer, {"reconstruction_loss": ("mse", 1.0)} | committed)
    curious = {"curiosity_loss": ("curiosity", 1.0)} if config.world_model.ensemble else {}
    yield Stage("world_model", world_model, WORLD_TERMS | curious)
    terms = {"loss_actor": ("actions", 1.0), "loss_values": ("values", actor.value)}
    yield Stage("actor_critic", actor_critic, terms | {"loss_entropy": ("entropy", -actor.entropy)})


def _codebook(case: Case) -> dict[str, Tensor | np.ndarray]:
    """What an EMA codebook is after a step; to the original its codes are a parameter that gets no gradient."""
    book = case.agent.tokenizer.embedding
    if not isinstance(book, EMA):
        return {}
    ((name, codes),) = theirs({"embedding.weight": book.weight}).items()
    return {
        "ema/cluster_size": book.cluster_size.clone(),
        "ema/embed_avg": book.code_sum.clone(),
        f"grad/tokenizer/{name}": torch.zeros((), dtype=torch.float64),
        "grad_none/tokenizer": np.array([name]),
        f"after_step/tokenizer/{name}": sum_and_norm(codes),
    }


def decayed(case: Case) -> np.ndarray:
    """Names of the world model's parameters that decay, in alphabetical order."""
    model, training = case.agent.world_model, case.training["world_model"]
    group = case.agent.optimiser("world_model", training.lr, training.weight_decay)[1][0]
    ids = {id(parameter) for parameter in group["params"]}
    return np.array(sorted(theirs({name: each for name, each in model.named_parameters() if id(each) in ids})))


# ---- replay ----


def replay_outputs(case: Case) -> dict[str, Tensor | np.ndarray]:
    """Entries `replay/*`: chances of draws, and how often each segment is in a batch."""
    losses_N = case.golden.tensor("batch/probe/replay_losses").double().numpy()
    share = 1 - case.recording.uniform
    return {
        "replay/probabilities_initial": softmax(np.full_like(losses_N, FRESH)),
        "replay/probabilities": softmax(losses_N),
        "replay/num_prioritised_for_batch_1_to_64": np.array([prioritised(share, n, up=True) for n in range(1, 65)]),
        "replay/inclusion_frequency_batch8": inclusion(losses_N, BATCH, prioritised(share, BATCH, up=True)),
    }
