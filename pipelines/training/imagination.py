"""Imagined segments for training: searched for now and then, kept in a bounded buffer, drawn from every step.

A module without weights, so that the buffer is part of the training's state and a killed run resumes bit for bit.
Source: JOWA (arXiv 2410.00564), its section on fine-tuning.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from models.api import Agent, Batch, mixed, rows_of
from models.planning.beam import Beam
from models.planning.imagination import ImaginedBuffer, imaginable, imagine
from pipelines.training.config import ImagineConfig
from pipelines.training.device import Device


class ImaginedSegments(nn.Module):
    """`legal_GA`: (games, actions) bool. The agent's networks are used as they are at the time, in eval mode."""

    def __init__(self, config: ImagineConfig, agent: Agent, legal_GA: Tensor, device: Device, seed: int) -> None:
        super().__init__()
        self._config, self._device, self._legal_GA = config, device, legal_GA
        self._agents = (agent,)  # in a tuple: its networks are no part of this module
        self._world, self._beam = agent.world(), Beam(config.width, config.horizon)
        self._buffer = ImaginedBuffer(config.capacity, seed)

    def __len__(self) -> int:
        return len(self._buffer)

    def mix(self, real: Batch, step: int) -> Batch:
        """From step `after` on the last segments of a whole batch give way to imagined ones.

        Every so many steps the model imagines how those that give way would have gone on.
        """
        config = self._config
        if step < config.after:
            return real
        kept = len(real.games_B) - config.segments
        if (step - config.after) % config.every == 0:
            self.search(rows_of(real, slice(kept, None)))
        if not len(self):  # no segment could be continued yet
            return real
        return mixed(rows_of(real, slice(kept)), self.sample(config.segments))

    @torch.no_grad()
    def search(self, batch: Batch) -> None:
        """Continue those of the segments (with frames) that can be, and keep what comes out."""
        assert batch.frames_BTCHW is not None, "this loader reads frames"
        able_B = imaginable(batch, self._config.horizon)
        if not bool(able_B.any()):
            return
        (agent,) = self._agents
        modes = [(network, network.training) for network in agent.networks.values()]
        for network, _ in modes:
            network.eval()
        with self._device.autocast():
            able = Batch(**{name: tensor[able_B] for name, tensor in vars(batch).items() if tensor is not None})
            assert able.frames_BTCHW is not None
            start = replace(able, tokens_BTK=agent.encode(able.frames_BTCHW))
            legal_BA = self._legal_GA[start.games_B]
            found = imagine(self._world, start, legal_BA, self._beam, agent.gamma, agent.decode)
        for network, training in modes:
            network.train(training)
        self._buffer.add(found)

    def sample(self, count: int) -> Batch:
        """`count` imagined segments, on the device. Raises ValueError while there are none."""
        return self._buffer.sample(count).to(self._device.name)

    def get_extra_state(self) -> dict[str, Tensor]:
        """The buffer, as torch saves it with the weights of other modules."""
        return self._buffer.state()

    def set_extra_state(self, state: Any) -> None:
        """Go on from what `get_extra_state` gave."""
        self._buffer.restore(state)
