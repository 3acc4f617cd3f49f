"""The rules under which a game is played: a score means nothing without them, so each set of rules has a name."""

from dataclasses import dataclass

from pipelines.errors import unknown


@dataclass(frozen=True)
class Protocol:
    """`sticky` is the chance that the emulator repeats the previous action, drawn each emulator frame.

    One agent step is `frame_skip` emulator frames, of which the last two are merged by their maximum. An episode is
    truncated after `max_frames` emulator frames. Lives do not end an episode, and rewards are never clipped here.
    """

    name: str
    sticky: float
    frame_skip: int = 4
    noop_max: int = 0
    max_frames: int = 108_000
    full_action_space: bool = False

    @property
    def max_steps(self) -> int:
        """Agent steps after which an episode is truncated."""
        return self.max_frames // self.frame_skip


PROTOCOLS = {
    # Machado et al. 2018 (arXiv 1709.06009), as Dopamine collected DQN-Replay: half an hour of play, 27,000 steps.
    "sticky": Protocol("sticky", sticky=0.25),
    # JOWA's evaluation (arXiv 2410.00564): no sticky actions, at most 108,000 agent steps.
    "jowa": Protocol("jowa", sticky=0.0, max_frames=432_000),
}


def protocol(name: str) -> Protocol:
    """The rules of that name; raises UsageError for an unknown one."""
    if name not in PROTOCOLS:
        raise unknown("protocol", name, PROTOCOLS, "pipelines/atari/protocols.py defines them")
    return PROTOCOLS[name]
