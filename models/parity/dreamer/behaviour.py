"""What actor and critic learn in imagination, how their target follows, whole steps of an agent, and how it plays.

Rollouts are recorded time first. Shapes: N rows, H imagined steps, A numbers of an action.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from models.dreamer.actor_critic import ActorCritic, Imagined, Learned, actor_critic_loss, imagine
from models.dreamer.optimiser import ACTOR, CRITIC, Optimisers, behaviour_parts, frozen
from models.dreamer.world_model import Segments
from models.parity.dreamer.case import Case, Recorded, mean, pictures, spread, state
from models.parity.dreamer.learning import TERMS, listed, moved, optimisers, step, weights
from models.rssm.model import State

EVERY, SHARE, UPDATES = 2, 0.5, ("behavior", "behavior2", "behavior3")  # of the stage slow_target
PLAYED, MODES = 2, ("train", "explore", "eval")  # environments, and one step of each mode
SHOWN = 2  # rollouts of which pictures are recorded


def _networks(case: Case) -> ActorCritic:
    assert case.behaviour is not None
    return case.behaviour


def behaviour_optimisers(case: Case) -> Optimisers:
    """Fresh ones of actor and critic."""
    training = case.training
    parts = behaviour_parts(_networks(case))
    return Optimisers(case.config, parts, training.lr, training.clip, training.weight_decay)


def learned(case: Case, start: State, segments: Segments, draws: Recorded) -> tuple[Imagined, Learned]:
    """A rollout and what is lost on it; the world takes no gradient, and passes it on."""
    networks, world = _networks(case), case.world
    ends_N = None if segments.ends_BT is None else segments.ends_BT.flatten()
    with frozen(world):
        imagined = imagine(world, networks.actor, start, ends_N, case.config.behaviour.horizon, draws)
        return imagined, actor_critic_loss(world, networks, imagined, case.config.faults.entropy_in_targets)


def update(case: Case, found: Learned, learner: Optimisers) -> dict[str, Tensor]:
    """One step of both, and the target's turn; the norms before clipping."""
    norms = learner.step(found.actor + found.critic)
    _networks(case).follow()
    return norms


def _start(case: Case) -> State:
    """The posteriors of stage eval."""
    with torch.no_grad():
        return case.world.observe(case.segments, case.draws("eval")).posterior.flatten()


def behaviour_outputs(case: Case) -> dict[str, Tensor | np.ndarray]:
    """Stages behavior and slow_target, from the recorded weights; put back at the end."""
    start, before, learner = _start(case), weights(case), behaviour_optimisers(case)
    segments = case.segments
    imagined, lost = learned(case, start, segments, case.draws("behavior", imagined=True))
    found: dict[str, Tensor | np.ndarray] = dict(_rollout(case, imagined, lost))
    norms = update(case, lost, learner)
    found |= {"loss/behavior/actor": lost.actor.detach(), "loss/behavior/critic": lost.critic.detach()}
    told = metrics(case, lost, norms)
    found |= {f"metrics/behavior/{name}": each for name, each in told.items()}
    found |= {f"grad/behavior/{case.theirs(name)}": each for name, each in learner.gradients.items()}
    after = moved(case, before)
    prefix = "after_step/behavior/"
    found |= {prefix + name: each for name, each in after.items() if name.startswith("_task_behavior.")}
    case.restore()
    return found | _slow_target(case, start, segments)


def _slow_target(case: Case, start: State, segments: Segments) -> dict[str, Tensor | np.ndarray]:
    networks, config = _networks(case), case.config
    networks.config = replace(config.behaviour, target_every=EVERY, target_share=SHARE)
    learner, rows = behaviour_optimisers(case), []
    for stage in UPDATES:
        _, lost = learned(case, start, segments, case.draws(stage, imagined=True))
        update(case, lost, learner)
        sums = [
            sum(float(each.detach().double().sum()) for each in part.parameters())
            for part in (networks.critic, networks.target, networks.actor)
        ]
        rows.append([*sums, float(lost.actor.detach()), float(lost.critic.detach())])
    networks.config = config.behaviour
    case.restore()
    return {"slow_target/critic_target_actor_sums_and_losses": torch.tensor(rows, dtype=torch.float64)}


def _rollout(case: Case, imagined: Imagined, lost: Learned) -> Iterator[tuple[str, Tensor]]:
    states = imagined.states
    found = state(case.world.rssm.kind, states.stats, states.deter, states.sample) | {
        "feat": imagined.features,
        "action": imagined.actions_NHA,
        "discount": imagined.discounts_NH,
        "weight": imagined.weights,
        "reward": lost.rewards_NH,
        "lambda_return": lost.returns_NH,
        "slow_value": lost.slow_NH,
        "policy_mean_raw": lost.policy.mean,  # before it is cut off
        "policy_std": lost.policy.std,
        "policy_mode": lost.policy.mode,
        "entropy": lost.entropies_NH,
        "value": lost.values_NH,
        "critic_target_used": lost.targets_NH,
    }
    for name, each in found.items():
        yield f"imagine/{name}", each.detach().transpose(0, 1)
    if case.config.frames.kind != "context":
        with torch.no_grad():
            drawn = case.world.draw(imagined.features[:SHOWN], {}, case.draws("eval"))
        yield from pictures("imagine/image_first2", drawn).items()


def metrics(case: Case, lost: Learned, norms: dict[str, Tensor]) -> dict[str, Tensor]:
    """What is told of an update; ContextWM's own repository shortens two names."""
    entropy = "actor_ent" if case.names == "contextwm" else "actor_entropy"
    return {
        "actor_grad_norm": norms[ACTOR],
        "critic_grad_norm": norms[CRITIC],
        "reward_mean": mean(lost.rewards_NH),
        "reward_std": spread(lost.rewards_NH),
        "reward_normed_mean": mean(lost.normed_NH),
        "reward_normed_std": spread(lost.normed_NH),
        "critic_slow": mean(lost.slow_NH),
        "critic_target": mean(lost.returns_NH),
        entropy: mean(lost.entropies_NH),
        f"{entropy}_scale": torch.tensor(case.config.behaviour.entropy, dtype=torch.float64),
        "critic": mean(lost.values_NH),
    }


def joint_outputs(case: Case) -> dict[str, Tensor | np.ndarray]:
    """Stage joint: the world learns, then the behaviour from its posteriors, in the world as it is by then."""
    before, segments = weights(case), case.segments
    world_lost, world_told = step(case, "joint", optimisers(case))
    start = world_lost.observed.posterior.flatten()
    _, lost = learned(case, start, segments, case.draws("joint", imagined=True))
    told = metrics(case, lost, update(case, lost, behaviour_optimisers(case)))
    of_world = {name.removeprefix("metrics/joint/"): each for name, each in world_told.items()}
    losses = {TERMS[name]: each.detach() for name, each in world_lost.terms.items()}
    total = world_lost.total(case.config).detach()
    found: dict[str, Tensor | np.ndarray] = {}
    if case.names == "contextwm":
        found |= {f"loss/joint/{name}": each for name, each in losses.items()}
        found |= {"loss/joint/total": total, "loss/joint/actor": lost.actor.detach()}
        found |= {"loss/joint/critic": lost.critic.detach()}
        found |= {f"metrics/joint/{name}": each for name, each in (of_world | told).items()}
    else:
        of_world |= {f"{name}_loss": each for name, each in losses.items()} | {"model_loss": total}
        told |= {"actor_loss": lost.actor.detach(), "critic_loss": lost.critic.detach()}
        found |= {f"metrics/joint/wm.{name}": each for name, each in of_world.items()}
        found |= {f"metrics/joint/behavior.{name}": each for name, each in told.items()}
    found |= listed(case, "after_joint", moved(case, before))
    case.restore()
    return found


@torch.no_grad()
def policy_outputs(case: Case) -> dict[str, Tensor | np.ndarray]:
    """Three steps of two environments: two that draw actions, and one that takes the likeliest; states are drawn."""
    world, networks, segments = case.world, _networks(case), case.segments
    draws, found = case.draws("policy"), dict[str, Tensor | np.ndarray]()
    playing, rows = world.begin(PLAYED), slice(0, PLAYED)
    actions_NA = torch.zeros(PLAYED, case.config.actions)
    for number, mode in enumerate(MODES):
        first_N = segments.first_BT[rows, number]
        playing = world.follow(playing, actions_NA, segments.frames_BTCRR[rows, number], first_N, draws)
        actions_NA = networks.actor.act(playing.state.feature, None if mode == "eval" else draws)
        found[f"policy/action_{number}_{mode}"] = actions_NA
    states = [playing.state] if playing.first is None else [playing.first, playing.state]
    for place, each in enumerate(states):
        shown = state(world.rssm.kind, each.stats, each.deter, each.sample)
        found |= {f"policy/state{place}/{name}": value for name, value in shown.items()}
    return found
