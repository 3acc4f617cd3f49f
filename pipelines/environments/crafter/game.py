"""Crafter by name (Hafner 2021, arXiv 2109.06780): its 17 actions, its 22 achievements, and the rules of play.

One world is drawn for every episode: a player gathers, builds, fights, eats and sleeps in it. A reward is +1 when an
achievement is reached for the first time in the episode, and a tenth of every point of health won or lost. An episode
ends with the player's death, or after 10,000 steps. A frame is 64x64 RGB: 9x7 fields around the player, and below them
what the player has.
Naming it needs no package; a test compares actions and achievements with those of the package that is installed.
"""

from dataclasses import dataclass

from models.spaces import Discrete
from pipelines.errors import UsageError

GAME = "Crafter"
_ACTIONS = """
    noop move_left move_right move_up move_down do sleep place_stone place_table place_furnace place_plant
    make_wood_pickaxe make_stone_pickaxe make_iron_pickaxe make_wood_sword make_stone_sword make_iron_sword
"""
ACTIONS = tuple(_ACTIONS.split())
_ACHIEVEMENTS = """
    collect_coal collect_diamond collect_drink collect_iron collect_sapling collect_stone collect_wood defeat_skeleton
    defeat_zombie eat_cow eat_plant make_iron_pickaxe make_iron_sword make_stone_pickaxe make_stone_sword
    make_wood_pickaxe make_wood_sword place_furnace place_plant place_stone place_table wake_up
"""
ACHIEVEMENTS = tuple(_ACHIEVEMENTS.split())
GROUPS = {"crafter": (GAME,)}


def actions(game: str) -> Discrete:
    """The 17 actions. Those that are impossible at the time, such as making what one lacks the wood for, do nothing."""
    return Discrete(ACTIONS)


@dataclass(frozen=True)
class CrafterRules:
    """An episode is truncated after `max_steps` steps.

    `budget` is the number of steps that an agent may play while it learns, of all its environments together; 0 sets
    none. It is a rule of the benchmark: scores of agents that have seen more do not compare. Playing is the same under
    all of them.
    """

    name: str
    budget: int = 0
    max_steps: int = 10_000

    @property
    def frame(self) -> tuple[int, int, int]:
        """(H, W, C) of the frames that are shown."""
        return 64, 64, 3

    def require_budget(self, steps: int, who: str) -> None:
        """Raises UsageError where `who` plays more `steps` while it learns than these rules allow."""
        if self.budget and steps > self.budget:
            raise UsageError(
                f"{who} plays {steps:,} steps while it learns, and {self.name} allows {self.budget:,}: play fewer, or "
                "choose the rules 'crafter', which set no budget"
            )


PROTOCOLS = {
    # The environment as its package has it, whatever an agent has seen.
    "crafter": CrafterRules("crafter"),
    # The benchmark of the paper: one million steps of play, in which the agent learns.
    "crafter_1m": CrafterRules("crafter_1m", budget=1_000_000),
    # Ten million: the budget of Delta-IRIS (arXiv 2406.19320).
    "crafter_10m": CrafterRules("crafter_10m", budget=10_000_000),
}
