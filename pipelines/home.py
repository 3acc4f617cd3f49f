"""Where this installation keeps its state, and the store that a storage profile describes."""

import fcntl
import functools
import json
import os
import sys
from pathlib import Path

from pipelines.errors import UsageError
from pipelines.progress import say
from pipelines.store.profile import Profile, load
from pipelines.store.store import Store

DEFAULT_HOME = ".worldline"
DEFAULT_PROFILE = "local"
PARTS = ("store", "experiments", "dagster")  # what makes a folder a home
REMAKE = "WORLDLINE_REMAKE"
UI_LOCK = "ui.lock"  # in Dagster's home: held by the one process that serves it, which writes there where


def home() -> Path:
    """WORLDLINE_HOME, or `.worldline` in the working directory or the nearest folder above that has one.

    Absolute, not made. One that is found above is named once; a user's own folder and `/` are not looked into from
    below, as everything lies below them. Raises UsageError for a name that is not text.
    """
    return require_text(_home())


def require_text(folder: Path) -> Path:
    """The folder itself, whose name goes into URLs and manifests. Raises UsageError where it is not text."""
    try:
        str(folder).encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"{str(folder)!a} is no text in this machine's encoding ({sys.getfilesystemencoding()}): choose another "
            "folder (WORLDLINE_HOME), or set LC_ALL=C.UTF-8 if its name is UTF-8"
        ) from error
    return folder


def _home() -> Path:
    if given := os.environ.get("WORLDLINE_HOME"):
        return Path(given).expanduser().absolute()
    here = Path(DEFAULT_HOME).absolute()
    if here.is_dir():
        return here
    everybodys = (Path.home(), Path(here.anchor))
    above = (folder / DEFAULT_HOME for folder in here.parent.parents if folder not in everybodys)
    found = next((each for each in above if any((each / part).is_dir() for part in PARTS)), None)
    if found is None:
        return here
    _name(found)
    return found


@functools.cache
def _name(found: Path) -> None:
    say(f"The home is {found}, in a folder above this one (WORLDLINE_HOME names another)")


def dagster_home() -> Path:
    """The folder of Dagster's instance: run history and event log."""
    return home() / "dagster"


def server() -> str:
    """Where this home's UI is served, as `http://127.0.0.1:3000, process 4711`; empty where it is not."""
    path = dagster_home() / UI_LOCK
    if not path.is_file():
        return ""
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            try:
                found = json.load(file)
            except ValueError:
                return "starting"
            return f"{found['url']}, process {found['process']}"
    return ""


def current_profile(name: str | None = None) -> Profile:
    """The profile `name`, else the one WORLDLINE_STORAGE names, else `local`. Raises UsageError as `load` does."""
    return load(name or os.environ.get("WORLDLINE_STORAGE") or DEFAULT_PROFILE)


def open_store(profile: Profile | None = None, folder: Path | None = None, remake: bool = False) -> Store:
    """The store of `profile` (default: the current one) in the home `folder` (default: ours); nothing is made yet.

    `remake`, or WORLDLINE_REMAKE, which children inherit, makes anew what is stale, damaged or of another code version.
    What is in a bucket has its copies in a folder of the home. Raises UsageError where no such bucket can be opened.
    """
    profile, folder = profile or current_profile(), folder or home()
    remake = remake or bool(os.environ.get(REMAKE))
    if profile.artefact_bucket:
        from pipelines.bucket.bucket_object import slug
        from pipelines.bucket.bucket_store import BucketStore

        url = profile.artefact_bucket
        return BucketStore(url, require_text(folder / f"store-{slug(url)}"), profile, remake)
    root = require_text(profile.artefact_folder() or folder / "store")
    return Store(root, profile.scratch_folder(), profile, remake)
