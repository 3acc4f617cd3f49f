"""A storage profile: where bytes live. Read from `storage_configs/NAME.yaml` or from a file of your own.

No hyper-parameters and no secrets: text may hold `${NAME}` or `${NAME:-default}` from the environment, and a key
that sounds like a secret must be exactly `${NAME}`. What options take from there never shows in a message (redact.py).
"""

import importlib.resources
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from pipelines.errors import UsageError, WorldlineError, unknown
from pipelines.redact import SECRET_NAME, remember, without_patterns

PACKAGE = "storage_configs"

NO_SECRETS = (None, "", "anon", "cloud", "google_default")  # gcsfs: ways to log in, not what to log in with

WRITABLE = ("gs://", "gcs://", "s3://", "s3a://")  # what artefacts can be written to on a condition

VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^{}]*))?\}")


@dataclass(frozen=True)
class Profile:
    """Roots as fsspec URLs or folders; None leaves the default that `storage_configs/local.yaml` explains.

    `layout` names the source (pipelines/sources/) that knows how objects below `replay_root` are named and read.

    `cache_bytes` bounds the mirrors of remote replay, and the copies of artefacts that lie in a bucket, each; None: no
    bound. `options` are for remote buckets alone.
    """

    name: str
    replay_root: str | None = None
    artefact_root: str | None = None
    scratch: str | None = None
    cache_bytes: int | None = None
    layout: str = "dqn_replay"
    options: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def artefact_bucket(self) -> str | None:
        """`artefact_root` where that is the URL of a bucket of a kind that artefacts can be written to."""
        root = self.artefact_root or ""
        return root.rstrip("/") if root.startswith(WRITABLE) else None

    def artefact_folder(self) -> Path | None:
        """`artefact_root` as an absolute path; None where it is not given, or is a bucket.

        Raises WorldlineError for a URL of another kind.
        """
        if self.artefact_bucket:
            return None
        return self._local("artefact_root", self.artefact_root, bucket=True)

    def scratch_folder(self) -> Path | None:
        """`scratch` as an absolute path. Raises WorldlineError for a URL that is not file://."""
        return self._local("scratch", self.scratch)

    def _local(self, key: str, value: str | None, bucket: bool = False) -> Path | None:
        if value is None:
            return None
        text = value.removeprefix("file://")
        if "://" in text:
            rule, repair = ", or a bucket of GCS or S3", " or gs://BUCKET/PREFIX or s3://BUCKET/PREFIX"
            raise WorldlineError(
                f"Storage profile {self.name}: {key} is {value}, it must be a folder of this machine"
                f"{rule if bucket else ''}: give a path{repair if bucket else ''}"
            )
        return Path(text).expanduser().absolute()


KEYS = tuple(entry.name for entry in fields(Profile) if entry.name != "name")


def names() -> list[str]:
    """The profiles that come with Worldline."""
    files = importlib.resources.files(PACKAGE).iterdir()
    return sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml"))


def load(name: str, environment: Mapping[str, str] = os.environ) -> Profile:
    """The profile called `name`, or the one in the file `name` when that ends in .yaml.

    Raises UsageError for an unknown name, key or type, a variable that is not set, and a secret written down.
    """
    if name.endswith(".yaml"):
        try:
            text = Path(name).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"Storage profile '{name}' cannot be read ({error}): give the path of a file") from error
    elif name in names():
        text = importlib.resources.files(PACKAGE).joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    else:
        raise unknown("storage profile", name, names(), "or give the path of a file that ends in .yaml")
    return parse(text, name, environment)


def parse(text: str, name: str, environment: Mapping[str, str]) -> Profile:
    """A profile from YAML text; `name` is for errors. Raises UsageError as `load` does."""
    try:
        data = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        where = getattr(error, "problem_mark", None)
        line = f" at line {where.line + 1}" if where else ""
        raise UsageError(f"Storage profile '{name}' is not YAML{line}: write 'key: value' lines") from error
    data = {} if data is None else data
    if not isinstance(data, dict):
        raise UsageError(f"Storage profile '{name}' is a {type(data).__name__}: write 'key: value' lines")
    for key in data:
        if key not in KEYS:
            raise unknown(f"key in storage profile {name}", str(key), KEYS, f"keys are {', '.join(KEYS)}")
    try:
        filled = {key: _fill(value, (key,), name, environment) for key, value in data.items()}
    except RecursionError as error:
        raise UsageError(f"Storage profile '{name}' contains itself: remove the alias") from error
    return Profile(name, **{key: _typed(key, value, name) for key, value in filled.items() if value not in (None, "")})


def _typed(key: str, value: Any, name: str) -> Any:
    """The value as its field's type; numbers may have come as text from the environment."""
    if key == "cache_bytes":
        if isinstance(value, str) and value.isdecimal():
            value = int(value)
        if type(value) is not int or value < 0:
            raise UsageError(f"Storage profile '{name}': cache_bytes is {value!r}, it must be a whole number of bytes")
        return value
    kind, words = (dict, "a mapping") if key == "options" else (str, "text")
    if not isinstance(value, kind):
        raise UsageError(f"Storage profile '{name}': {key} is {value!r}, it must be {words}")
    if key == "options":
        for option in value:
            if not isinstance(option, str):
                raise UsageError(f"Storage profile '{name}': options has {option!r}, which is no option's name")
    elif isinstance(value, str) and "://" in value:
        _require_plain_url(key, value, name)
    return value


def _require_plain_url(key: str, url: str, name: str) -> None:
    """Raises UsageError for a URL that names nothing, and for one that holds a secret."""
    kind, _, place = url.partition("://")
    if not place.strip("/") and kind != "file":
        raise UsageError(f"Storage profile '{name}': {key} '{url}' names no bucket: write {kind}://BUCKET/FOLDER")
    if not place:
        raise UsageError(f"Storage profile '{name}': {key} '{url}' names no folder: write file:///FOLDER")
    if without_patterns(url) != url:
        raise UsageError(
            f"Storage profile '{name}': {key} holds a password or a signature: take it out of the URL, use options"
        )


def _fill(value: Any, path: tuple[str, ...], name: str, environment: Mapping[str, str]) -> Any:
    """`value` with every `${NAME}` replaced, at any depth; refuses secrets before."""
    if isinstance(value, dict):
        return {key: _fill(item, (*path, str(key)), name, environment) for key, item in value.items()}
    if isinstance(value, list):
        return [_fill(item, path, name, environment) for item in value]
    if SECRET_NAME.search(path[-1]) and not isinstance(value, bool) and value not in NO_SECRETS:
        found = VARIABLE.fullmatch(value) if isinstance(value, str) else None
        if found is None or found["default"]:
            raise UsageError(
                f"Storage profile '{name}': {'.'.join(path)} is a secret and must not stand in a file: "
                f"write ${{{re.sub(r'[^A-Z0-9]', '_', path[-1].upper())}}} and set that variable"
            )
    if not isinstance(value, str):
        return value
    if "${" in VARIABLE.sub("", value):
        raise UsageError(f"Storage profile '{name}': {'.'.join(path)} has a broken variable: write ${{NAME}}")
    return VARIABLE.sub(lambda found: _variable(found, path, name, environment), value)


def _variable(found: re.Match[str], path: tuple[str, ...], name: str, environment: Mapping[str, str]) -> str:
    value = environment.get(found["name"]) or found["default"]
    if value is None:
        raise UsageError(
            f"Storage profile '{name}': {'.'.join(path)} needs the variable {found['name']}: export {found['name']}=..."
        )
    if path[0] == "options" and value != found["default"] and value not in NO_SECRETS:
        secret = next(filter(SECRET_NAME.search, (*path, found["name"])), path[-1])
        remember(value, secret, f"${{{found['name']}}}")
    return value
