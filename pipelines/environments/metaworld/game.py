"""Meta-world by name (Yu et al. 2019, arXiv 1910.10897): its 50 tasks, what a success is, and the rules of play.

A robot arm does one thing with one object: it opens a drawer, turns a dial. An action is 4 numbers from -1 to 1: how
the hand moves along x, y and z, and how its fingers close. A reward is the task's own, of 0 to 10 for every step. An
episode is cut after 500 steps and never ends before: a success, told for each step, ends nothing. Places of object and
goal are drawn for every episode. What is played is version 3 of the tasks, which the package has.
Naming it needs no package; a test compares the tasks with those of the package that is installed.
"""

from dataclasses import dataclass

from models.spaces import Box
from pipelines.errors import UsageError

_TASKS = """
    assembly basketball bin-picking box-close button-press button-press-topdown button-press-topdown-wall
    button-press-wall coffee-button coffee-pull coffee-push dial-turn disassemble door-close door-lock door-open
    door-unlock drawer-close drawer-open faucet-close faucet-open hammer hand-insert handle-press handle-press-side
    handle-pull handle-pull-side lever-pull peg-insert-side peg-unplug-side pick-out-of-hole pick-place pick-place-wall
    plate-slide plate-slide-back plate-slide-back-side plate-slide-side push push-back push-wall reach reach-wall
    shelf-place soccer stick-pull stick-push sweep sweep-into window-close window-open
"""
TASKS = tuple(_TASKS.split())
# The six that APV (arXiv 2203.13880) learned, and ContextWM (arXiv 2305.18499) and PreLAR after it.
APV_TASKS = ("lever-pull", "drawer-open", "door-lock", "button-press-topdown-wall", "reach", "dial-turn")
GROUPS = {"metaworld": TASKS, "metaworld_apv": APV_TASKS}
ACHIEVEMENTS = ("success",)

# Those of the tasks' scenes. Four are defined upside down: see `environment`.
CAMERAS = ("topview", "corner", "corner2", "corner3", "corner4", "behindGripper", "gripperPOV")
UPSIDE_DOWN = ("corner", "corner2", "corner3", "corner4")

NUMBERS = 4  # of an action
STATE = 39  # numbers of a state: hand, fingers and objects now, the same a step before, the goal


def actions(game: str) -> Box:
    """Four numbers from -1 to 1: the hand's way along x, y and z, and the fingers' grip."""
    return Box(NUMBERS)


@dataclass(frozen=True)
class MetaworldRules:
    """An episode is truncated after `max_steps` steps; `camera` sees it, in frames of `size` pixels in each direction.

    The rest is how a frame is drawn: `shadows`, the size in pixels of the map from which they are drawn (0: none),
    `samples` a pixel against jagged edges (0: one), whether surfaces have `reflections`, and the `detail` in metres
    below which meshes are merged (0: none is). On a processor they cost far more than the physics does. Raises
    UsageError for an unknown camera and for a number that is out of its range.
    """

    name: str
    camera: str = "corner"
    size: int = 64
    shadows: int = 4096
    samples: int = 4
    reflections: bool = True
    detail: float = 0.0
    max_steps: int = 500

    def __post_init__(self) -> None:
        check_camera(self.camera)
        for what, value, least, most in (
            ("size", self.size, 1, 1024),
            ("shadows", self.shadows, 0, 8192),
            ("samples", self.samples, 0, 16),
            ("detail", self.detail, 0, 0.1),
            ("max_steps", self.max_steps, 1, 10**6),
        ):
            if not least <= value <= most:
                raise UsageError(f"Rules '{self.name}' have {what} {value}: give {least} to {most}")

    @property
    def frame(self) -> tuple[int, int, int]:
        """(H, W, C) of the frames that are shown."""
        return self.size, self.size, 3


def check_camera(name: str) -> str:
    """The name itself; raises UsageError for a camera that the scenes lack."""
    if name not in CAMERAS:
        raise UsageError(f"Unknown camera '{name}': choose one of {', '.join(CAMERAS)}")
    return name


def _fast(name: str, camera: str, detail: float = 0.0) -> MetaworldRules:
    return MetaworldRules(name, camera, shadows=0, samples=0, reflections=False, detail=detail)


PROTOCOLS = {
    # As APV, ContextWM and PreLAR see it, drawn as the package draws it.
    "metaworld": MetaworldRules("metaworld"),
    # The same view, drawn about fifteen times as fast on a processor.
    "metaworld_fast": _fast("metaworld_fast", "corner"),
    # That with meshes merged in cubes of 1 cm, about half a pixel: twice as fast again.
    "metaworld_coarse": _fast("metaworld_coarse", "corner", 0.01),
    # The view of later papers, there called corner2 moved to (0.75, 0.075, 0.7).
    "metaworld_corner4": MetaworldRules("metaworld_corner4", "corner4"),
    "metaworld_fast_corner4": _fast("metaworld_fast_corner4", "corner4"),
}
