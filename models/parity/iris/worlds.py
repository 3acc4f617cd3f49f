"""Outputs of playing inside IRIS's world model: given actions with the recorded draws, and imagined rollouts.

A frame of bytes is recorded by truncation, so a byte b stands for [b, b + 1): ours is the exact number less 1/2, which
lies within 1/2 of b. The frame after a reset alone is recorded by rounding.

Shapes: N rows, S steps, H imagined steps, K tokens a frame.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from models.iris.imagination import Rollout, imagine
from models.iris.world import TransformerPlayer
from models.losses.returns import lambda_returns
from models.parity.iris.case import Case


@torch.no_grad()
def env_outputs(case: Case) -> dict[str, Tensor]:
    """Entries `env/*`: the last step wants no next frame, and the original draws one token of it nevertheless."""
    model, decode = case.world_model, case.tokenizer.decode_tokens
    actions_NS, given = case.golden.tensor("batch/env/actions"), case.draws("env")
    tokens_NK = case.tokenizer.encode_tokens(case.golden.tensor("batch/env/observations"))
    player, last = TransformerPlayer(model), actions_NS.shape[1] - 1
    player.reset(tokens_NK)
    assert player.cache is not None
    found = {"env/reset_tokens": tokens_NK, "env/reset_observation": 255 * decode(tokens_NK)}
    found |= dict(_state(player, "reset"))
    sizes, flushed, steps = [player.cache.length], [], []
    for step, actions_N in enumerate(actions_NS.unbind(1)):
        steps.append(player.step(actions_N, given, observe=step < last))
        sizes.append(player.cache.length)
        passes = model.config.tokens_per_step if step < last else 1
        flushed.append(sizes[-1] - sizes[-2] != passes)
        if step == 1:
            found |= dict(_state(player, "step2"))
        if flushed[-1] and sum(flushed) == 1:
            found |= dict(_state(player, "flush_step"))
    tokens_NSK = torch.stack([one.tokens_NK for one in steps[:-1] if one.tokens_NK is not None], dim=1)
    frames_NSCHW = decode(tokens_NSK)
    kept = case.recorded("env/frames_uint8", 2, axis=1)
    fresh_cache = model.transformer.empty_cache(len(tokens_NK), model.config.max_tokens)
    return found | {
        "env/reset_output_sequence": model.read_frame(tokens_NK, fresh_cache),
        "env/logits_rewards": torch.stack(given.logits["rewards"], dim=1),
        "env/logits_ends": torch.stack(given.logits["ends"], dim=1),
        "env/logits_observations": torch.stack(given.logits["tokens"], dim=1).unflatten(1, tokens_NSK.shape[1:]),
        "env/logits_observations_last_step": model.head_observations(player.newest_ND)[:, None],
        "env/rewards": torch.stack([one.rewards_N for one in steps], dim=1),
        "env/ends": torch.stack([one.ends_N for one in steps], dim=1),
        "env/obs_tokens": tokens_NSK,
        "env/frames_uint8": as_bytes(frames_NSCHW[:, last - kept :]),
        "env/frame_means": frames_NSCHW.mean((2, 3, 4)),
        "env/last_frame": frames_NSCHW[: case.recorded("env/last_frame", 1), -1],
        "env/cache_sizes": torch.tensor(sizes),
        "env/flushed": torch.tensor(flushed),
    }


def _state(player: TransformerPlayer, when: str) -> Iterator[tuple[str, Tensor]]:
    """Keys and values of every layer after `when`."""
    cache = player.cache
    assert cache is not None
    for layer in range(len(cache.keys)):
        for name, slots in (("keys", cache.keys), ("values", cache.values)):
            yield f"env/state_after_{when}/layer{layer}/{name}", slots[layer, :, :, : cache.length].clone()


def rollout(case: Case) -> tuple[dict[str, Tensor], Rollout]:
    """Burn-in on reconstructions and one imagined rollout with the recorded draws: states by entry, and the rollout."""
    config, decode = case.config.actor_critic, case.tokenizer.decode_tokens
    tokens_NTK = case.tokenizer.encode_tokens(case.golden.tensor("batch/actor_critic/observations"))
    mask_NT = case.golden.tensor("batch/actor_critic/mask_padding")
    burnt = case.actor_critic.burn_in(decode(tokens_NTK[:, :-1]), mask_NT[:, :-1])
    draws, player = case.draws("imagine", actions=True), TransformerPlayer(case.world_model)
    found = imagine(case.actor_critic, player, decode, tokens_NTK[:, -1], burnt, config.horizon, draws)
    return {"imagine/burnin_hx": burnt.hidden_NS, "imagine/burnin_cx": burnt.cell_NS}, found


@torch.no_grad()
def imagine_outputs(case: Case) -> dict[str, Tensor]:
    """Entries `imagine/*`."""
    config = case.config.actor_critic
    found, rolled = rollout(case)
    returns_NH = lambda_returns(rolled.rewards_NH, rolled.ends_NH, rolled.values_NH, config.gamma, config.lambda_)
    return found | {
        "imagine/observations": as_bytes(rolled.frames_NHCHW),
        "imagine/actions": rolled.actions_NH,
        "imagine/logits_actions": rolled.logits_NHA,
        "imagine/values": rolled.values_NH,
        "imagine/rewards": rolled.rewards_NH,
        "imagine/ends": rolled.ends_NH,
        "imagine/frame_means": rolled.frames_NHCHW.mean((2, 3, 4)),
        "imagine/last_frame_row0": rolled.frames_NHCHW[0, -1],
        "imagine/lambda_returns": returns_NH,
    }


def as_bytes(frames: Tensor) -> Tensor:
    """Frames in [0, 1] on the scale of truncated bytes, each number's middle."""
    return (frames * 255).clamp(max=255) - 0.5
