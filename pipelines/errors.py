"""The two errors a user may cause. Each message is one line: the value, the rule, the repair."""

import difflib
from collections.abc import Iterable


class WorldlineError(Exception):
    """Something could not be done (exit code 1): a missing parent, a damaged file, a full disk."""

    exit_code = 1


class UsageError(WorldlineError):
    """The request itself is wrong (exit code 2): an unknown game, recipe, field or profile."""

    exit_code = 2


def unknown(kind: str, value: str, known: Iterable[str], where: str) -> UsageError:
    """The error for a name that is not in a known list, with the nearest name as the repair.

    `unknown("game", "MsPackman", games, "'worldline games' lists all 60")`
    """
    choices = sorted(known)
    near = difflib.get_close_matches(value, choices, n=1, cutoff=0.5)
    if near:
        repair = f"did you mean '{near[0]}'?"
    elif len(choices) <= 12:
        repair = f"choose one of {', '.join(choices)}."
    else:
        repair = f"there are {len(choices)} to choose from."
    return UsageError(f"Unknown {kind} '{value}': {repair} ({where})")
