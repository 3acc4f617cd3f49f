"""Where this installation keeps its state, and the store that a storage profile describes."""

import os
from pathlib import Path

from pipelines.store.profile import Profile, load
from pipelines.store.store import Store

DEFAULT_HOME = ".worldline"
DEFAULT_PROFILE = "local"
REMAKE = "WORLDLINE_REMAKE"


def home() -> Path:
    """WORLDLINE_HOME, or `.worldline` in the working directory; absolute, not made."""
    return Path(os.environ.get("WORLDLINE_HOME") or DEFAULT_HOME).expanduser().absolute()


def dagster_home() -> Path:
    """The folder of Dagster's instance: run history and event log."""
    return home() / "dagster"


def current_profile(name: str | None = None) -> Profile:
    """The profile `name`, else the one WORLDLINE_STORAGE names, else `local`. Raises UsageError as `load` does."""
    return load(name or os.environ.get("WORLDLINE_STORAGE") or DEFAULT_PROFILE)


def open_store(profile: Profile | None = None, folder: Path | None = None, remake: bool = False) -> Store:
    """The store of `profile` (default: the current one) in the home `folder` (default: ours); nothing is made yet.

    `remake`, or WORLDLINE_REMAKE, which children inherit, makes anew what is stale, damaged or of another code version.
    Raises WorldlineError for an artefact root that is a URL.
    """
    profile = profile or current_profile()
    root = profile.artefact_folder() or (folder or home()) / "store"
    return Store(root, profile.scratch_folder(), profile, remake or bool(os.environ.get(REMAKE)))
