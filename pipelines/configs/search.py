"""How a policy chooses its actions: which planner, how far it looks, and the numbers JOWA's paper tuned for its games.

Source of the tuned numbers: arXiv 2410.00564, the appendix on evaluation. All of them search 2 steps deep.
"""

from dataclasses import dataclass

from pipelines.errors import UsageError, unknown

PLANNERS = ("greedy", "beam", "mcts")
LEAVES, CHOICES = ("max", "mean"), ("value", "visits")


@dataclass(frozen=True)
class SearchConfig:
    """Finer settings of the planners. `simulations` 0 is as many as a beam of the same width and horizon has nodes."""

    leaf: str = "max"  # what an imagined end is worth: its best legal action, or the mean over legal ones
    simulations: int = 0  # of MCTS, a decision
    temperature: float = 1.0  # of MCTS's priors
    choice: str = "value"  # MCTS plays the action of best mean value, or the most visited
    sample: bool = False  # draw what is imagined instead of the most likely; environments then plan one by one

    def __post_init__(self) -> None:
        if self.leaf not in LEAVES:
            raise unknown("leaf value", self.leaf, LEAVES, "what an imagined end is worth")
        if self.choice not in CHOICES:
            raise unknown("choice", self.choice, CHOICES, "how MCTS picks the action it plays")
        if self.simulations < 0 or self.temperature <= 0:
            raise UsageError(
                f"A search with simulations {self.simulations} and temperature {self.temperature} is impossible: "
                "simulations must be at least 0 (0: as many as a beam's nodes), temperature above 0"
            )


@dataclass(frozen=True)
class GridConfig:
    """Settings to search over before the reported evaluation: every combination plays the same `episodes`.

    An empty axis keeps the evaluation's own value; with all of them empty nothing is searched.
    """

    contexts: tuple[int, ...] = ()
    widths: tuple[int, ...] = ()
    horizons: tuple[int, ...] = ()
    leaves: tuple[str, ...] = ()
    episodes: int = 4
    max_steps: int = 0  # agent steps at which an episode of the search is cut; 0: as the evaluation's
    seed: int = 0  # of the search alone; its episodes are never reported

    def __post_init__(self) -> None:
        for name in ("contexts", "widths", "horizons"):
            values = getattr(self, name)
            if any(value < 1 for value in values) or len(set(values)) != len(values):
                given = ",".join(map(str, values))
                raise UsageError(f"A search over {name} {given} is impossible: give numbers from 1 on, each once")
        for leaf in self.leaves:
            if leaf not in LEAVES:
                raise unknown("leaf value", leaf, LEAVES, "what an imagined end is worth")
        if len(set(self.leaves)) != len(self.leaves):
            raise UsageError(f"A search over leaves {','.join(self.leaves)} is impossible: give each once")
        if self.episodes < 1 or self.max_steps < 0 or self.seed < 0:
            raise UsageError(
                f"A search with episodes {self.episodes}, max_steps {self.max_steps}, seed {self.seed} is impossible: "
                "episodes must be at least 1, the others 0"
            )

    @property
    def wanted(self) -> bool:
        """Whether there is anything to search over."""
        return bool(self.contexts or self.widths or self.horizons or self.leaves)


@dataclass(frozen=True)
class Tuned:
    """What was tuned for one game and size of model."""

    context: int
    width: int


SETTINGS = ("jowa_40m", "jowa_70m", "jowa_150m")
_TUNED = {  # game: contexts of the three sizes, then the width they share
    "Assault": (3, 5, 4, 2),
    "Atlantis": (4, 2, 2, 3),
    "BeamRider": (5, 2, 6, 2),
    "Berzerk": (6, 1, 1, 4),
    "Carnival": (2, 5, 4, 2),
    "Centipede": (1, 1, 6, 4),
    "ChopperCommand": (1, 4, 2, 4),
    "DemonAttack": (3, 3, 3, 2),
    "NameThisGame": (2, 2, 3, 2),
    "Phoenix": (2, 1, 2, 2),
    "Seaquest": (2, 6, 6, 4),
    "SpaceInvaders": (2, 3, 2, 2),
    "StarGunner": (1, 6, 2, 3),
    "TimePilot": (6, 6, 2, 4),
    "Zaxxon": (2, 6, 2, 4),
}
TUNED_HORIZON = 2
TUNED_FIELDS = ("context", "beam_width", "beam_horizon")  # of EvaluateConfig, which a set stands for


def tuned(settings: str, game: str) -> Tuned | None:
    """The numbers of a named set for a game, None where it has none. Raises UsageError for an unknown set."""
    if settings not in SETTINGS:
        raise unknown("set of settings", settings, SETTINGS, "pipelines/configs/search.py holds them")
    if game not in _TUNED:
        return None
    *contexts, width = _TUNED[game]
    return Tuned(contexts[SETTINGS.index(settings)], width)
