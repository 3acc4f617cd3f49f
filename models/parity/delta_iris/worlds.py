"""Outputs of playing inside Delta-IRIS's world model: given actions with the recorded draws, and imagined rollouts.

Behind every step the frame that the original drew is put in the place of ours, once ours was compared: a pixel at the
edge of rounding may differ by 1, which group norms of one channel make more of from step to step.

Shapes: N rows, S steps, H imagined steps, K tokens a change, L tokens, D width.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from models.delta_iris.imagination import Rollout, imagine
from models.delta_iris.world import DeltaPlayer, as_observations
from models.parity.delta_iris.case import Case
from models.practice.draws import Draw
from models.practice.world import Step

FLUSHED = "env/state_after_flush_step/layer0/keys"


class Recorded(DeltaPlayer):
    """Plays on from recorded frames; keeps its own, and the outputs of the newest step."""

    def __init__(self, case: Case, name: str) -> None:
        super().__init__(case.agent.world_model, case.agent.tokenizer)
        self._shown = case.shown(name)
        self.drawn, self.outputs, self.reward_logits = list[Tensor](), list[Tensor](), list[Tensor]()

    def read(self, x_NLD: Tensor) -> Tensor:
        """See `DeltaPlayer`: all outputs are kept."""
        assert self.cache is not None
        self._passes += 1
        self.outputs.append(self.model.read(x_NLD, self.cache, newest=False))
        return self.outputs[-1][:, -1]

    def step(self, actions_N: Tensor, draw: Draw, observe: bool = True) -> Step:
        """See `DeltaPlayer`."""
        self.outputs.clear()
        found, number = super().step(actions_N, draw, observe), len(self.drawn)
        self.drawn.append(self.frame)
        self.reward_logits.append(self.rewards_NV)
        if self._shown is None or number >= self._shown.shape[1]:
            return found
        self.frame = self._shown[:, number]
        seen_N1D = self.model.embed_frames(self.frame)[:, None]
        self._waiting_NLD = torch.cat([self._waiting_NLD[:, :-1], seen_N1D], dim=1)
        return replace(found, tokens_NK=as_observations(self.frame))

    @property
    def newest_frame(self) -> Tensor:
        """The embedded frame (N, 1, D) that is read with the next action."""
        return self._waiting_NLD[:, -1:]


@torch.no_grad()
def env_outputs(case: Case) -> dict[str, Tensor]:
    """Entries `env/*`."""
    actions_NS = case.golden.tensor("batch/env/actions").flatten(1)
    player, given = Recorded(case, "env/frames_uint8"), case.draws("env")
    player.reset(as_observations(case.golden.frames("batch/env/observations")[:, 0]))
    assert player.cache is not None
    sizes, steps, found = [player.cache.length], [], {"env/reset_output_sequence": player.outputs[-1]}
    found |= dict(_state(player, "state_after_reset"))
    for number, actions_N in enumerate(actions_NS.unbind(1), start=1):
        steps.append(player.step(actions_N, given))
        sizes.append(player.cache.length)
        flushed = sizes[-1] < sizes[-2] and FLUSHED not in found
        if number == 2 or flushed:
            name = "flush_step" if flushed else "step2"
            found |= dict(_state(player, f"state_after_{name}"))
            found[f"env/wm_output_sequence_{name}"] = torch.cat(player.outputs, dim=1)
    frames_NSCRR = torch.stack(player.drawn, dim=1)
    rewards_NS = torch.stack([one.rewards_N for one in steps], dim=1)
    outputs = {
        "next_frame_embedding": player.newest_frame,
        "logits_ends": torch.stack(given.logits["ends"], dim=1),
        "logits_rewards": torch.stack(player.reward_logits, dim=1),
        "logits_latents": torch.stack(given.logits["tokens"], dim=1).unflatten(1, (-1, player.tokens_NK.shape[1])),
        "rewards": rewards_NS,
        "ends": torch.stack([one.ends_N for one in steps], dim=1),
        "frames_uint8": 255 * frames_NSCRR,
        "frame_means": frames_NSCRR.mean((2, 3, 4)),
        "cache_sizes": torch.tensor(sizes),
        "flushed": torch.tensor([later < earlier for earlier, later in pairwise(sizes)]),
    }
    return found | {f"env/{name}": value for name, value in outputs.items()}


def _state(player: DeltaPlayer, when: str) -> Iterator[tuple[str, Tensor]]:
    """Keys and values of every layer, heads side by side: (N, L, D)."""
    cache = player.cache
    assert cache is not None
    for layer in range(len(cache.keys)):
        for name, slots in (("keys", cache.keys), ("values", cache.values)):
            yield f"env/{when}/layer{layer}/{name}", slots[layer, :, :, : cache.length].transpose(1, 2).flatten(2)


def rollout(case: Case) -> tuple[Rollout, Recorded]:
    """Burn-in and one imagined rollout with the recorded draws, and who played it."""
    batch, frames_NTCRR = case.batch("actor_critic"), case.golden.frames("batch/actor_critic/observations")
    seen_NT = torch.ones_like(batch.mask_BT)
    networks, player = case.agent.actor_critic, Recorded(case, "imagine/frames_uint8")
    tokens_NTS = as_observations(frames_NTCRR)
    player.follow(tokens_NTS, batch.actions_BT[:, :-1])
    both = (networks.model, networks.target_model)
    burnt = [one.burn_in(frames_NTCRR[:, :-1].unbind(1), seen_NT[:, :-1]) for one in both]
    horizon, draws = case.config.actor_critic.horizon, case.draws("imagine", actions=True)
    start = tokens_NTS[:, -1]
    return imagine(networks, player, case.agent.see, start, (burnt[0], burnt[1]), horizon, draws), player


@torch.no_grad()
def imagine_outputs(case: Case) -> dict[str, Tensor]:
    """Entries `imagine/*`."""
    config, (rolled, player) = case.config.actor_critic, rollout(case)
    assert player.cache is not None
    drawn = torch.stack(player.drawn, dim=1)
    seen_NHCRR = torch.cat([rolled.seen_NHCRR[:, :1], drawn], dim=1)
    mean = config.values == "mean"
    found = {
        "actions": rolled.actions_NH,
        "logits_actions": rolled.logits_NHA,
        "logits_values": rolled.critic_NHZ[..., 0] if mean else rolled.critic_NHZ,
        "rewards": rolled.rewards_NH,
        "ends": rolled.ends_NH.long(),
        "target_values": rolled.targets_NH,
        "value_bootstrap": rolled.bootstrap_N,
        "frames_uint8": 255 * drawn,
        "frame_means": seen_NHCRR.mean((2, 3, 4)),
        "final_cache_size": torch.tensor(player.cache.length),
        "lambda_returns": rolled.returns(config.gamma, config.lambda_),
        "loss_mask": rolled.kept,
    }
    return {f"imagine/{name}": value for name, value in found.items()}
