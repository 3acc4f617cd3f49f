"""Outputs of playing inside IRIS's world model: given actions with the recorded draws, and imagined rollouts.

A frame of bytes is recorded by truncation, so a byte b stands for [b, b + 1): ours is the exact number less 1/2, which
lies within 1/2 of b. The frame after a reset alone is recorded by rounding.

Shapes: N rows, S steps, H imagined steps, K tokens a frame.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from torch import Tensor

from models.blocks.transformer import KVCache
from models.iris.world import TokenPlayer, player_of
from models.iris.world_model import WorldModel
from models.losses.returns import lambda_returns
from models.parity.iris.case import Case
from models.practice.imagination import Rollout, imagine
from models.practice.world import Player

FLUSHED = "env/state_after_flush_step"


@torch.no_grad()
def env_outputs(case: Case) -> dict[str, Tensor]:
    """Entries `env/*`: the last step wants no next frame, and the original draws one token of it nevertheless."""
    model, player = case.world_model, player_of(case.world_model)
    assert isinstance(model, WorldModel) and isinstance(player, TokenPlayer)
    found: dict[str, Tensor] = {}
    sizes: list[int] = []

    def after(step: int) -> None:
        """Note the cache behind a step; step 0 is the reset."""
        sizes.append(player.memory.length)
        if step in (0, 2):
            found.update(_state(player.memory, "step2" if step else "reset"))
        elif sizes[-1] < sizes[-2] and f"{FLUSHED}/layer0/keys" not in found:
            found.update(_state(player.memory, "flush_step"))

    found |= played(case, player, "env", after)
    tokens_NK = found["env/reset_tokens"]
    return found | {
        "env/reset_output_sequence": model.read_frame(tokens_NK, model.empty_memory(len(tokens_NK))),
        "env/logits_observations_last_step": model.head_observations(player.newest_ND)[:, None],
        "env/cache_sizes": torch.tensor(sizes),
        "env/flushed": torch.tensor([later < earlier for earlier, later in pairwise(sizes)]),
    }


def played(
    case: Case, player: Player, name: str, after: Callable[[int], None] = lambda step: None, *, all_seen: bool = False
) -> dict[str, Tensor]:
    """The entries of `name` that every kind of world has: recorded actions and draws from one start frame.

    after: called behind the reset with 0, behind step s with s. all_seen: whether the last step makes a frame too, of
    which the file records what it is drawn from.
    """
    decode = case.tokenizer.decode_tokens
    actions_NS, given = case.golden.tensor("batch/env/actions"), case.draws(name)
    tokens_NK, last = (
        case.tokenizer.encode_tokens(case.golden.tensor("batch/env/observations")),
        actions_NS.shape[1] - 1,
    )
    player.reset(tokens_NK)
    after(0)
    steps = []
    for step, actions_N in enumerate(actions_NS.unbind(1)):
        steps.append(player.step(actions_N, given, observe=step < last or all_seen))
        after(step + 1)
    tokens_NSK = torch.stack([one.tokens_NK for one in steps[:-1] if one.tokens_NK is not None], dim=1)
    frames_NSCHW = decode(tokens_NSK)
    kept = case.recorded(f"{name}/frames_uint8", 2, axis=1)
    found = {
        "reset_tokens": tokens_NK,
        "reset_observation": 255 * decode(tokens_NK),
        "logits_rewards": torch.stack(given.logits["rewards"], dim=1),
        "logits_ends": torch.stack(given.logits["ends"], dim=1),
        "logits_observations": torch.stack(given.logits["tokens"], dim=1).unflatten(1, (-1, tokens_NK.shape[1])),
        "rewards": torch.stack([one.rewards_N for one in steps], dim=1),
        "ends": torch.stack([one.ends_N for one in steps], dim=1),
        "obs_tokens": tokens_NSK,
        "frames_uint8": as_bytes(frames_NSCHW[:, last - kept :]),
        "frame_means": frames_NSCHW.mean((2, 3, 4)),
        "last_frame": frames_NSCHW[: case.recorded(f"{name}/last_frame", 1), -1],
    }
    return {f"{name}/{entry}": value for entry, value in found.items()}


def _state(cache: KVCache, when: str) -> Iterator[tuple[str, Tensor]]:
    """Keys and values of every layer after `when`."""
    for layer in range(len(cache.keys)):
        for name, slots in (("keys", cache.keys), ("values", cache.values)):
            yield f"env/state_after_{when}/layer{layer}/{name}", slots[layer, :, :, : cache.length].clone()


def rollout(case: Case, name: str = "imagine", player: Player | None = None) -> tuple[dict[str, Tensor], Rollout]:
    """Burn-in on reconstructions and one imagined rollout with the recorded draws: states by entry, and the rollout."""
    config, decode = case.config.actor_critic, case.tokenizer.decode_tokens
    tokens_NTK = case.tokenizer.encode_tokens(case.golden.tensor("batch/actor_critic/observations"))
    mask_NT = case.golden.tensor("batch/actor_critic/mask_padding")
    burnt = case.actor_critic.burn_in(decode(tokens_NTK[:, :-1]).unbind(1), mask_NT[:, :-1])
    draws, player = case.draws(name, actions=True), player or player_of(case.world_model)
    player.reset(tokens_NTK[:, -1])
    found = imagine(case.actor_critic, player, decode, tokens_NTK[:, -1], burnt, config.horizon, draws)
    return {f"{name}/burnin_hx": burnt.hidden, f"{name}/burnin_cx": burnt.cell}, found


@torch.no_grad()
def imagine_outputs(case: Case, name: str = "imagine", player: Player | None = None) -> dict[str, Tensor]:
    """Entries `imagine/*`."""
    config = case.config.actor_critic
    states, rolled = rollout(case, name, player)
    returns_NH = lambda_returns(rolled.rewards_NH, rolled.ends_NH, rolled.values_NH, config.gamma, config.lambda_)
    found = {
        "observations": as_bytes(rolled.seen_NHCHW),
        "actions": rolled.actions_NH,
        "logits_actions": rolled.logits_NHA,
        "values": rolled.values_NH,
        "rewards": rolled.rewards_NH,
        "ends": rolled.ends_NH,
        "frame_means": rolled.seen_NHCHW.mean((2, 3, 4)),
        "last_frame_row0": rolled.seen_NHCHW[0, -1],
        "lambda_returns": returns_NH,
    }
    return states | {f"{name}/{entry}": value for entry, value in found.items()}


def as_bytes(frames: Tensor) -> Tensor:
    """Frames in [0, 1] on the scale of truncated bytes, each number's middle."""
    return (frames * 255).clamp(max=255) - 0.5
