"""REM's imagined rollout with the recorded draws; losses, gradients and an optimiser step of each of its networks.

Every stage begins with the recorded weights. Shapes: N rows, H imagined steps.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from models.api import Losses, Moment
from models.losses.returns import lambda_returns
from models.parity.learning import WORLD_TERMS, gradient_of, gradients, sum_and_norm
from models.parity.rem.case import Case, stacked
from models.practice.blocks import learned
from models.practice.draws import Given
from models.practice.imagination import Rollout, imagine
from models.practice.loss import actor_critic_loss, token_world_loss
from models.practice.world import Player
from models.rem.actor_critic import LatentActorCritic
from models.rem.world import RemPlayer
from models.tokenizers.loss import tokenizer_loss

TABLES = ("embedding.weight", "placeholder_embeddings.weight")  # whose gradients are recorded row by row


@dataclass(frozen=True)
class Stage:
    """A network that is trained: its loss, and the recorded names of its terms with what these are multiplied by."""

    name: str
    loss: Callable[[], Losses]
    terms: Mapping[str, tuple[str, float]]


# ---- imagination ----


def rollout(case: Case, given: Given) -> tuple[Rollout, Tensor, Player]:
    """The recorded rollout with gradients, the actor's state behind burn-in, and the world at its end."""
    agent, batch = case.agent, case.batch("actor_critic")
    assert batch.tokens_BTK is not None
    player, tokens_NTK, mask_NT = agent.beginning(batch, Moment(0))
    seen = (agent.see(tokens_NK) for tokens_NK in tokens_NTK[:, :-1].unbind(1))
    burnt = agent.actor_critic.burn_in(seen, mask_NT[:, :-1], agent.told(batch))
    found = imagine(agent.actor_critic, player, agent.see, tokens_NTK[:, -1], burnt, agent.imagined_steps, given)
    return found, stacked(tuple(burnt)), player


@torch.no_grad()
def imagine_outputs(case: Case) -> dict[str, Tensor]:
    """Entries `imagine/*`."""
    config, given = case.config.actor_critic, case.draws()
    rolled, burnt, player = rollout(case, given)
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
        "rnn_state_after_burn_in": burnt,
        "rnn_state_last": stacked(tuple(rolled.memory)),
        "world_model_states_last": torch.stack(player.states),
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
        found |= dict(_recorded(case, stage))
        case.restore(stage.name)
    return found


def _stages(case: Case) -> Iterator[Stage]:
    """Each network's: the agent's own losses, but for LPIPS, which is left out and recorded as 0."""
    agent, config = case.agent, case.config
    frames = case.frames("batch/tokenizer/observations").flatten(0, 1)
    batch, actor = case.batch("world_model"), config.actor_critic

    def tokenizer() -> Losses:
        losses = tokenizer_loss(frames, agent.tokenizer(frames), config.weights)
        return Losses(losses.total, {**losses.terms, "lpips": torch.zeros(())})

    def world_model() -> Losses:
        outputs = agent.world_model(batch.tokens_BTK, batch.actions_BT, agent.codes())
        return token_world_loss(outputs, batch, learned(batch, config.world_model.context), agent.world_counts(batch))

    def actor_critic() -> Losses:
        return actor_critic_loss(rollout(case, case.draws())[0], actor)

    names = {"commitment_loss": "commitment", "reconstruction_loss": "mse", "perceptual_loss": "lpips"}
    yield Stage("tokenizer", tokenizer, {theirs: (ours, 1.0) for theirs, ours in names.items()})
    yield Stage("world_model", world_model, WORLD_TERMS)
    terms = {"loss_actions": ("actions", 1.0), "loss_values": ("values", actor.value)}
    yield Stage("actor_critic", actor_critic, terms | {"loss_entropy": ("entropy", -actor.entropy)})


def _recorded(case: Case, stage: Stage) -> Iterator[tuple[str, Tensor | np.ndarray]]:
    """The entries of a stage while it takes one step."""
    networks, training = case.agent.networks, case.training[stage.name]
    network = networks[stage.name]
    for each in networks.values():
        each.zero_grad(set_to_none=True)
    losses = stage.loss()
    losses.total.backward()
    yield f"loss/{stage.name}/total", losses.total.detach()
    for theirs, (ours, factor) in stage.terms.items():
        yield f"loss/{stage.name}/{theirs}", factor * losses.terms[ours]
    yield from _gradients(stage.name, network)
    for name, other in networks.items():
        if name != stage.name:
            count = sum(each.grad is not None for each in other.parameters())
            yield f"grad_other/{stage.name}/{name}", torch.tensor(count)
    kind, groups = case.agent.optimiser(stage.name, training.lr, training.weight_decay)
    optimiser = kind(groups)  # type: ignore[call-arg]
    before = nn.utils.clip_grad_norm_(network.parameters(), training.clip)
    yield f"grad_total/{stage.name}/before_clip", before
    yield (
        f"grad_total/{stage.name}/after_clip",
        nn.utils.get_total_norm([each.grad for each in network.parameters() if each.grad is not None]),
    )
    optimiser.step()
    for name, weight in network.named_parameters():
        yield f"after_step/{stage.name}/{name}", sum_and_norm(weight)


def _gradients(stage: str, network: nn.Module) -> Iterator[tuple[str, Tensor | np.ndarray]]:
    """The norm of each parameter's gradient; those of tables row by row too, and which have none."""
    parameters = dict(network.named_parameters())
    yield from gradients(f"grad/{stage}", parameters)
    for name in TABLES if stage == "world_model" else ():
        rows = gradient_of(parameters[name]).double().norm(dim=1)
        yield f"grad_rows/{stage}/{name.removesuffix('.weight')}", rows
    none = [name for name, parameter in parameters.items() if parameter.grad is None]
    yield f"grad_none/{stage}", np.array(none, dtype=np.str_)
