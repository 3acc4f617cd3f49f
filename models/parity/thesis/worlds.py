"""Playing the thesis's world models of neural circuits, from the original's resets and from those that are mended.

The original reads something else at a reset than the start frame: token by token, one token 0; frame by frame, the
start frame with action 0, which it then reads again with the first action. Entries `*_fixed_reset` are those of a reset
that does what ours do. Shapes: N rows, K tokens a frame.
"""

import torch
from torch import Tensor

from models.iris.ncp import CircuitMemory, NcpFrames
from models.iris.world import FramePlayer, TokenPlayer, player_of
from models.parity.iris.case import Case
from models.parity.iris.networks import world_model_outputs
from models.parity.iris.worlds import imagine_outputs, played
from models.practice.world import Player

FIXED = "_fixed_reset"
"""behind the names of entries and draws of mended resets"""


class OriginalTokenPlayer(TokenPlayer):
    """Begins with a token 0; the next that is read is the action, at its place."""

    @torch.no_grad()
    def reset(self, tokens_NK: Tensor) -> None:
        """See `Player`."""
        super().reset(tokens_NK)
        self.memory = self.model.empty_memory(len(tokens_NK))
        self.newest_ND = self.model.read_frame(torch.zeros_like(tokens_NK[:, :1]), self.memory)[:, -1]
        self.memory.length = tokens_NK.shape[1]


class OriginalFramePlayer(FramePlayer):
    """Reads the start frame with action 0 before it is read with the first action."""

    @torch.no_grad()
    def reset(self, tokens_NK: Tensor) -> None:
        """See `Player`."""
        super().reset(tokens_NK)
        assert self.memory is not None
        nothing_N1 = torch.zeros_like(tokens_NK[:, :1])
        self.newest_ND = self.model.read(tokens_NK[:, None], nothing_N1, self.memory)[:, 0]


def new_player(case: Case, suffix: str) -> Player:
    """A player whose resets are the original's, or with the suffix FIXED ours."""
    if suffix:
        return player_of(case.world_model)
    model = case.world_model
    return OriginalFramePlayer(model) if isinstance(model, NcpFrames) else OriginalTokenPlayer(model)


def ncp_outputs(case: Case) -> dict[str, Tensor]:
    """Entries `world_model/*`, `env*/*` and `imagine*/*`."""
    found = whole_outputs(case) | ncp_states(case)
    for suffix in ("", FIXED):
        found |= env_outputs(case, suffix)
        found |= imagine_outputs(case, f"imagine{suffix}", new_player(case, suffix))
    return found


def whole_outputs(case: Case) -> dict[str, Tensor]:
    """Entries `world_model/*` of whole segments. Frame by frame, tokens are recorded in steps and logits in frames."""
    found = world_model_outputs(case)
    if case.config.world_model.kind == "ncp_frames":
        per_frame = case.config.world_model.tokens_per_frame
        for name, size in (("tokens", per_frame + 1), ("logits_observations", per_frame)):
            found[f"world_model/{name}"] = found[f"world_model/{name}"].unflatten(1, (-1, size))
    return found


@torch.no_grad()
def env_outputs(case: Case, suffix: str) -> dict[str, Tensor]:
    """Entries `env/*` or `env_fixed_reset/*`. Frame by frame, the last step's tokens are drawn too."""
    player, name = new_player(case, suffix), f"env{suffix}"
    by_frame = isinstance(player, FramePlayer)
    found: dict[str, Tensor] = {}

    def after(step: int) -> None:
        assert isinstance(player, FramePlayer | TokenPlayer) and player.memory is not None
        read_nothing = by_frame and suffix  # the mended reset reads the frame with its action, not before
        if step == 2 or (step == 0 and not read_nothing):
            found.update(_states(player.memory, f"{name}/state_after_{'step2' if step else 'reset'}/layer"))
        if step == 0 and not read_nothing:
            found[f"{name}/reset_output_sequence"] = _read_at_reset(case, player)

    found |= played(case, player, name, after, all_seen=by_frame)
    if isinstance(player, TokenPlayer):
        found[f"{name}/logits_observations_last_step"] = player.model.head_observations(player.newest_ND)[:, None]
    return found


def _read_at_reset(case: Case, player: FramePlayer | TokenPlayer) -> Tensor:
    """Hidden states of all that was read."""
    if isinstance(player, OriginalTokenPlayer | OriginalFramePlayer):
        return player.newest_ND[:, None]
    tokens_NK = case.tokenizer.encode_tokens(case.golden.tensor("batch/env/observations"))
    assert isinstance(player, TokenPlayer)
    return player.model.read_frame(tokens_NK, player.model.empty_memory(len(tokens_NK)))


@torch.no_grad()
def ncp_states(case: Case) -> dict[str, Tensor]:
    """States of circuits after whole segments, and on the way of their tokens."""
    model, batch = case.world_model, case.world_batch()
    assert batch.tokens_BTK is not None
    rows = len(batch.tokens_BTK)
    if isinstance(model, NcpFrames):
        memory = model.ncp_layers.empty_memory(rows)
        model.read(batch.tokens_BTK, batch.actions_BT, memory)
        return _states(memory, "world_model/hidden_state/")
    memory, found = model.empty_memory(rows), {}
    steps, per_frame = batch.tokens_BTK.shape[1:]
    for step in range(steps):
        for tokens_B1 in batch.tokens_BTK[:, step].split(1, dim=1):
            model.read_frame(tokens_B1, memory)
            found[memory.length - 1] = _states(memory, f"world_model/hidden_state_after_token_{memory.length - 1}/")
        model.read_action(batch.actions_BT[:, step], memory)
        found[memory.length - 1] = _states(memory, f"world_model/hidden_state_after_token_{memory.length - 1}/")
    noted = (0, per_frame - 1, per_frame, memory.length - 1)
    return {name: state for token in noted for name, state in found[token].items()}


def _states(memory: CircuitMemory, prefix: str) -> dict[str, Tensor]:
    """Every layer's state by its entry."""
    return {f"{prefix}{layer}": state_NU for layer, state_NU in enumerate(memory.states)}
