"""The named rules under which Atari games are played.

Agent steps are decisions, of `frame_skip` emulator frames each; papers count now the one, now the other.
"""

from dataclasses import dataclass

RESIZES = ("area", "bilinear")


@dataclass(frozen=True)
class AtariRules:
    """`sticky` is the chance that the emulator repeats the previous action, drawn each emulator frame.

    One agent step is `frame_skip` emulator frames. Before the first one, `noop_min` to `noop_max` - 1 emulator frames
    of no-ops are drawn by the episode's seed (none where `noop_max` is 0). An episode is truncated after `max_frames`
    emulator frames. `life_loss` ends an episode, but not the game, with every life. Rewards are never clipped here.
    A frame is square, of `frame_size` pixels, grey or in `colour`. Resize "area" is Dopamine's: the maximum of the last
    two screens, resized as cv2's INTER_AREA does. "bilinear" is IRIS's: both screens resized by Pillow's bilinear
    filter, then their maximum. Raises ValueError for another resize and for no-ops that cannot be drawn.
    """

    name: str
    sticky: float
    frame_skip: int = 4
    noop_max: int = 0
    max_frames: int = 108_000
    full_action_space: bool = False
    noop_min: int = 0
    life_loss: bool = False
    frame_size: int = 84
    colour: bool = False
    resize: str = "area"

    def __post_init__(self) -> None:
        if self.resize not in RESIZES:
            raise ValueError(f"Resize '{self.resize}' is unknown: choose {' or '.join(RESIZES)}")
        if not 0 <= self.noop_min <= max(self.noop_max - 1, 0):
            raise ValueError(
                f"No-ops from {self.noop_min} to below {self.noop_max} cannot be drawn: noop_min must be below noop_max"
            )

    @property
    def max_steps(self) -> int:
        """Agent steps after which an episode is truncated."""
        return self.max_frames // self.frame_skip

    @property
    def frame(self) -> tuple[int, int, int]:
        """(H, W, C) of the frames that are shown."""
        return self.frame_size, self.frame_size, 3 if self.colour else 1


PROTOCOLS = {
    # The stochasticity of Machado et al. 2018 (arXiv 1709.06009) under Dopamine's rules (arXiv 1812.06110), by which
    # DQN-Replay was collected: 27,000 agent steps, half an hour; frame skip 4; the game's minimal action set.
    "sticky": AtariRules("sticky", sticky=0.25),
    # JOWA's evaluation (arXiv 2410.00564): no sticky actions, at most 108,000 agent steps.
    "jowa": AtariRules("jowa", sticky=0.0, max_frames=432_000),
    # Atari 100k (arXiv 1903.00374): no sticky actions, 27,000 agent steps, up to 29 frames of no-ops to start with.
    # Its papers agree on the first two alone. No-ops: rlpyt, under SPR (arXiv 2007.05929), 1 to 30 emulator frames;
    # Dopamine's runner (arXiv 2108.13264) 0 to 29 agent steps; IRIS (arXiv 2209.00588) one frame. Losing a life ends
    # their episodes in training, not in evaluation. They report 100 episodes.
    "atari100k": AtariRules("atari100k", sticky=0.0, noop_max=30),
    # IRIS (arXiv 2209.00588): Atari 100k as its code plays it, 64x64 RGB. Evaluation begins with one no-op frame and
    # cuts after 108,000 emulator frames; training begins with 1 to 30, cuts after 20,000 and ends with every life.
    "iris": AtariRules("iris", 0.0, noop_min=1, noop_max=2, frame_size=64, colour=True, resize="bilinear"),
    "iris-train": AtariRules(
        "iris-train",
        sticky=0.0,
        noop_min=1,
        noop_max=31,
        max_frames=20_000,
        life_loss=True,
        frame_size=64,
        colour=True,
        resize="bilinear",
    ),
}

ALIASES = {"machado": "sticky"}
