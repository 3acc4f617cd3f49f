"""Makes recipe `mini` in one process and prints the project's files that it entered, a line each.

Entered is a file of which a function ran. The bodies of its module and its classes do not count: the table of stages
names the config of every stage and family, whatever is run.
Run: `python -m tests.entered HOME`, with a fresh folder as the home.
"""

import inspect
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]  # not from tests.fakes, which imports some of what is counted


def make_mini(home: Path) -> None:
    """All stages of `mini`, and the leaderboard."""
    from pipelines.graph.experiment import register
    from pipelines.graph.make import make, make_board
    from pipelines.graph.plan import Plan
    from pipelines.recipes.registry import recipe
    from pipelines.store.store import Store

    experiment = register(home / "experiments", "mini", recipe("mini"))
    plan, store = Plan(experiment.recipe), Store(home / "store")
    for step in plan.steps():
        make(plan, step, store, experiment)
    make_board(store)


def entered(home: Path) -> set[str]:
    """The files below `models` and `pipelines`, templates too, by their paths from the repository's root."""
    files: set[str] = set()

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_flags & inspect.CO_OPTIMIZED:
            files.add(frame.f_code.co_filename)

    threading.setprofile(note)
    sys.setprofile(note)
    make_mini(home)
    sys.setprofile(None)
    threading.setprofile(None)
    found = (Path(name).resolve() for name in files)
    return {
        str(path.relative_to(ROOT)) for path in found for room in ("models", "pipelines") if ROOT / room in path.parents
    }


if __name__ == "__main__":
    print(*sorted(entered(Path(sys.argv[1]))), sep="\n")
