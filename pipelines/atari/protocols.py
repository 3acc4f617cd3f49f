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
    # Atari 100k (arXiv 1903.00374) as its papers evaluate: no sticky actions, up to 29 no-ops to start with.
    "atari100k": Protocol("atari100k", sticky=0.0, noop_max=30),
}
ALIASES = {"machado": "sticky"}


def canonical(name: str) -> str:
    """The one name of a set of rules that has several, so that equal rules make equal keys; others are unchanged."""
    return ALIASES.get(name, name)


def protocol(name: str) -> Protocol:
    """The rules of that name or alias; raises UsageError for an unknown one."""
    if canonical(name) not in PROTOCOLS:
        raise unknown("protocol", name, (*PROTOCOLS, *ALIASES), "pipelines/atari/protocols.py defines them")
    return PROTOCOLS[canonical(name)]
