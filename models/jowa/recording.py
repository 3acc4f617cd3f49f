"""A pass through a golden file: its model as recorded, dropout and all, and the same model without."""

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import replace

import torch

from models.jowa.golden import Golden
from models.jowa.recorded import find_dropout, replay_dropout
from models.parity import Check

REPLAYED = "with the recording's own dropout in the Q heads (models/jowa/recorded.py)"
NOT_FOUND = "without dropout: the recorded Q heads are not ours, and no small seed's dropout explains them"


class Recording:
    """`clean` is the file's model in eval mode; `model` draws the recording's dropout once `listen` has found it."""

    def __init__(self, golden: Golden) -> None:
        self.golden, self.clean, self.model = golden, golden.model, deepcopy(golden.model)
        self.generator: torch.Generator | None = None
        self.note = ""

    def listen(self) -> None:
        """Look for dropout in the Q heads' recorded logits, and replay it from here on."""
        golden, config = self.golden, self.clean.config
        if "forward/logits_q" in golden.arrays and config.q_dropout:
            with torch.no_grad():
                inputs = golden.tensor("forward/tokens"), golden.tensor("forward/games")
                hidden_BLD = self.clean(*inputs, heads=()).hidden_BLD
            frame_ends_ND = hidden_BLD[:, config.tokens_per_frame - 1 :: config.tokens_per_step].flatten(0, 1)
            recorded = [name for name in ("forward/logits_q", "forward/logits_q_target") if name in golden.arrays]
            logits_QNO = [golden.tensor(name).flatten(1, 2) for name in recorded]
            self.generator = find_dropout(self.clean, frame_ends_ND, *logits_QNO)
        if self.generator is not None:
            replay_dropout(self.model, self.generator)
        self.note = REPLAYED if self.generator is not None else NOT_FOUND

    def state(self) -> torch.Tensor | None:
        """Where the dropout's draws stand; None without."""
        return None if self.generator is None else self.generator.get_state()

    def rewind(self, state: torch.Tensor | None) -> None:
        """Go back to where `state` was taken."""
        if self.generator is not None and state is not None:
            self.generator.set_state(state)

    def noted(self, checks: Iterable[Check], more: str = "") -> list[Check]:
        """The checks with a note on how their numbers were had."""
        note = "; ".join(filter(None, (self.note, more)))
        return [replace(one, note=note) if note else one for one in checks]
