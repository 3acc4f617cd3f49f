"""Imagined segments for training: searched for now and then, kept in a bounded store, drawn from every step.

A module without weights, so that the store is part of the training's state and a killed run resumes bit for bit.
"""

from typing import Any

import torch
from torch import Tensor, nn

from models.api import Batch
from models.jowa.model import Jowa
from models.jowa.world import JowaWorld
from models.planning.beam import Beam
from models.planning.imagination import ImaginedBuffer, imaginable, imagine
from models.tokenizers.vq import Tokenizer
from pipelines.training.config import ImagineConfig
from pipelines.training.device import Device


class Dreaming(nn.Module):
    """`legal_GA`: (60, 18) bool. The networks are used as they are at the time, in eval mode."""

    def __init__(
        self, config: ImagineConfig, model: Jowa, tokenizer: Tokenizer, legal_GA: Tensor, device: Device, seed: int
    ) -> None:
        super().__init__()
        self._config, self._device, self._legal_GA = config, device, legal_GA
        self._networks = (model, tokenizer)  # in a tuple: they are no part of this module
        self._world, self._beam = JowaWorld(model), Beam(config.width, config.horizon)
        self._dreams = ImaginedBuffer(config.capacity, seed)

    def __len__(self) -> int:
        return len(self._dreams)

    @torch.no_grad()
    def dream(self, batch: Batch) -> None:
        """Continue those of the segments (with frames) that can be, and keep what comes out."""
        assert batch.frames_uint8_BTHW is not None, "this loader reads frames"
        able_B = imaginable(batch, self._config.horizon)
        if not bool(able_B.any()):
            return
        model, tokenizer = self._networks
        modes = [(network, network.training) for network in self._networks]
        for network in self._networks:
            network.eval()
        with self._device.autocast():
            tokens_BTK = tokenizer.encode_tokens(batch.frames_uint8_BTHW[able_B])
            start = Batch(
                frames_uint8_BTHW=batch.frames_uint8_BTHW[able_B],
                tokens_BTK=tokens_BTK,
                actions_BT=batch.actions_BT[able_B],
                rewards_BT=batch.rewards_BT[able_B],
                ends_BT=batch.ends_BT[able_B],
                mask_BT=batch.mask_BT[able_B],
                games_B=batch.games_B[able_B],
            )
            legal_BA = self._legal_GA[start.games_B]
            found = imagine(self._world, start, legal_BA, self._beam, model.config.gamma, tokenizer.decode_tokens)
        for network, training in modes:
            network.train(training)
        self._dreams.add(found)

    def sample(self, count: int) -> Batch:
        """`count` imagined segments, on the device. Raises ValueError while there are none."""
        return self._dreams.sample(count).to(self._device.name)

    def get_extra_state(self) -> dict[str, Tensor]:
        """The store, as torch saves it with the weights of other modules."""
        return self._dreams.state()

    def set_extra_state(self, state: Any) -> None:
        """Go on from what `get_extra_state` gave."""
        self._dreams.restore(state)
