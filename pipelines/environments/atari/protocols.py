"""The rules under which a game is played: a score means nothing without them, so each set of rules has a name.

Agent steps are decisions, of `frame_skip` emulator frames each; papers count now the one, now the other.
"""

from dataclasses import dataclass

from pipelines.errors import unknown


@dataclass(frozen=True)
class Protocol:
    """`sticky` is the chance that the emulator repeats the previous action, drawn each emulator frame.

    One agent step is `frame_skip` emulator frames, of which the last two are merged by their maximum. Before the first
    one, 0 to `noop_max` - 1 emulator frames of no-ops are drawn by the episode's seed (ale-py 0.12.1's own; measured).
    An episode is truncated after `max_frames` emulator frames. Losing a life never ends an episode, whatever an agent
    was trained with, and rewards are never clipped here.
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
    # The stochasticity of Machado et al. 2018 (arXiv 1709.06009) under Dopamine's rules (arXiv 1812.06110), by which
    # DQN-Replay was collected: 27,000 agent steps, half an hour; frame skip 4; the game's minimal action set.
    "sticky": Protocol("sticky", sticky=0.25),
    # JOWA's evaluation (arXiv 2410.00564): no sticky actions, at most 108,000 agent steps.
    "jowa": Protocol("jowa", sticky=0.0, max_frames=432_000),
    # Atari 100k (arXiv 1903.00374): no sticky actions, 27,000 agent steps, up to 29 frames of no-ops to start with.
    # Its papers agree on the first two alone. No-ops: rlpyt, under SPR (arXiv 2007.05929), 1 to 30 emulator frames;
    # Dopamine's runner (arXiv 2108.13264) 0 to 29 agent steps; IRIS (arXiv 2209.00588) one frame. Losing a life ends
    # their episodes in training, not in evaluation. They report 100 episodes.
    "atari100k": Protocol("atari100k", sticky=0.0, noop_max=30),
}

ALIASES = {"machado": "sticky"}


def canonical(name: str) -> str:
    """The one name of a set of rules that has several, so that equal rules make equal keys; others are unchanged."""
    return ALIASES.get(name, name)


def protocol(name: str) -> Protocol:
    """The rules of that name or alias; raises UsageError for an unknown one."""
    if canonical(name) not in PROTOCOLS:
        raise unknown(
            "protocol", name, (*PROTOCOLS, *ALIASES), "pipelines/environments/atari/protocols.py defines them"
        )
    return PROTOCOLS[canonical(name)]
