"""Stage `tokens`: every frame of a game encoded once with the frozen tokenizer, uint16.

Frames stream through in blocks; memory stays bounded whatever the game's size. Run: `worldline tokenize EXPERIMENT`.
"""

from dataclasses import dataclass
from typing import ClassVar

from models.limits import Size
from models.registry import family_of
from pipelines.errors import UsageError
from pipelines.evaluation.player_settings import Precision
from pipelines.progress import track
from pipelines.store.artefact import Draft, Report
from pipelines.store.ref import Ref
from pipelines.store.stage_config import Beside, StageConfig, Work, filled, networks_beside, networks_named, parent
from pipelines.store.store import Store


@dataclass(frozen=True)
class TokenizeConfig(StageConfig):
    """Encode every frame of a game once with the frozen tokenizer."""

    STAGE: ClassVar[str] = "tokens"
    VERB: ClassVar[str] = "tokenize"
    CODE: ClassVar[str] = "4"

    game: str = filled("game", "")
    agent: Ref | None = parent(makes="agent", part="tokenizer")
    trajectories: Ref | None = parent(makes="trajectories", part="frames")
    batch_frames: Size = 256
    precision: Precision = "auto"

    @property
    def subject(self) -> str:
        return self.game

    def work(self, beside: Beside) -> Work | None:
        """The frames that are drawn, by these networks."""
        drawn = getattr(beside.template("downsample"), "transitions", None)
        return None if drawn is None else Work("frames", drawn, networks_named(beside))

    def check_frozen(self, beside: Beside) -> None:
        """The agent's frames can be stored as tokens."""
        networks = networks_beside(beside)
        if networks is not None and not family_of(networks).tokens:
            raise UsageError(
                f"Recipe '{beside.name}': agents of the family '{networks.family}' have no tokens: leave tokenize out"
            )


def run(config: TokenizeConfig, store: Store) -> Report:
    """Encode one game, or find its tokens."""
    return store.produce(config.spec(), lambda draft: _build(config, draft))


def _build(config: TokenizeConfig, draft: Draft) -> None:
    import numpy as np
    import torch

    from pipelines.batches.segments import TOKENS_NAME, TokenWriter
    from pipelines.episodes.trajectories import FILE_NAME, Trajectories
    from pipelines.training.checkpoints import load_agent
    from pipelines.training.device import pick, settle
    from pipelines.training.inputs import channels_first

    if config.agent is None or config.trajectories is None:
        raise UsageError(f"Tokens of {config.game} need an agent and trajectories: name both artefacts")
    device = pick(config.precision, leased=True)
    agent = load_agent(draft.parents[config.agent], device)
    device = settle(agent, device, config.precision)
    data = Trajectories(draft.parents[config.trajectories].source(FILE_NAME))
    if not 0 < agent.vocabulary <= np.iinfo(np.uint16).max + 1:
        raise UsageError(
            f"{config.agent} has a vocabulary of {agent.vocabulary} codes: tokens are stored as uint16, use 1 to 65,536"
        )
    per_frame = agent.tokens_per_frame
    writer = TokenWriter(draft.path(TOKENS_NAME), len(data), per_frame)
    seen = torch.zeros(agent.vocabulary, dtype=torch.bool)
    with track(f"Tokenize {config.game}", total=len(data), unit="frames") as advance:
        for start in range(0, len(data), config.batch_frames):
            frames = torch.as_tensor(data.frames(start, start + config.batch_frames))
            with device.piece("encode"):
                tokens = agent.encode(channels_first(frames, 3).to(device.name)).cpu()
            seen[tokens.unique()] = True
            writer.append(tokens.numpy().astype(np.uint16))
            advance(len(frames))
    writer.close()
    draft.counts |= {"frames": len(data), "tokens": len(data) * per_frame, "codes_used": int(seen.sum())}
    draft.metrics |= device.metrics()
