"""Who reads a bucket: what a storage profile's options and the environment say about it, told without a request.

No value is ever told, only where it comes from.
"""

import importlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.errors import UsageError

GOOGLE, S3 = ("gs", "gcs"), ("s3", "s3a")

GOOGLE_KEYS = ({"private_key", "client_email"}, {"refresh_token", "client_id", "client_secret"})  # fields of key files

GOOGLE_FILE = "GOOGLE_APPLICATION_CREDENTIALS"

MACHINE = Path("/sys/class/dmi/id/product_name")

# boto's ways that ask a network or run a program
ASKING = ("container-role", "iam-role", "custom-process")

NO_S3 = (
    "No credentials for s3:// were found: export AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or write "
    "anon: true in the options of the storage profile for a public bucket"
)


def origin(kind: str | None, options: Mapping[str, Any]) -> str:
    """Where the credentials for URLs of this kind (`gs`, `s3`, ...) come from, in a few words.

    Raises UsageError where there are none, and where they cannot be read.
    """
    if kind in GOOGLE:
        return _google(options.get("token", "anon"))
    if kind in S3:
        return _s3(options)
    return "none are asked for" if kind in ("http", "https") else f"left to the client of {kind}:// (not looked for)"


def google_token(token: Any) -> Any:
    """gcsfs' option `token`; a path becomes that of an existing key file. gcsfs would send any other text to Google.

    Raises UsageError for a key file that is not there, cannot be read, or is none.
    """
    if not isinstance(token, str) or not (token.startswith(("/", "~", ".")) or token.endswith(".json")):
        return token
    path = Path(token).expanduser()
    key = _json(path, token)
    if not isinstance(key, dict) or not any(fields <= key.keys() for fields in GOOGLE_KEYS):
        raise UsageError(
            f"The key file {token} is neither a service account's nor a user's: it needs "
            f"{' or '.join(', '.join(sorted(fields)) for fields in GOOGLE_KEYS)}"
        )
    return str(path)


def _json(path: Path, shown: str) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise UsageError(f"The key file {shown} cannot be read ({error.strerror}): give the path of a file") from error
    except ValueError as error:
        raise UsageError(f"The key file {shown} is not JSON: download the key again from Google's console") from error


def _google(token: Any) -> str:
    if token == "anon":
        return "none, the bucket is read anonymously (token: anon)"
    if token == "cloud":
        return "the account of the Google machine this runs on (not tried)"
    if token in (None, "google_default"):
        return _google_default()
    if (isinstance(token, str) and google_token(token) != token) or str(token).endswith(".json"):
        return "a key file, read"
    return "the option token (not tried)"


def _google_default() -> str:
    if named := os.environ.get(GOOGLE_FILE):
        _json(Path(named).expanduser(), f"{named} ({GOOGLE_FILE})")
        return f"{named}, as {GOOGLE_FILE} says"
    folder = Path(os.environ.get("CLOUDSDK_CONFIG") or Path.home() / ".config" / "gcloud")
    path = folder / "application_default_credentials.json"
    if path.exists():
        _json(path, str(path))
        return str(path)
    if MACHINE.is_file() and "Google" in MACHINE.read_text(errors="replace"):
        return "the account of the Google machine this runs on (not tried)"
    raise UsageError(
        f"No log-in to Google was found ({path} is missing): run 'gcloud auth application-default login', set "
        f"{GOOGLE_FILE} to a key file, or write token: anon in the options of the storage profile for a public bucket"
    )


def _s3(options: Mapping[str, Any]) -> str:
    if options.get("anon"):
        return "none, the bucket is read anonymously (anon: true)"
    if any(options.get(name) for name in ("key", "username")):
        return "the options key and secret (not tried)"
    try:
        boto, errors = (importlib.import_module(f"botocore.{name}") for name in ("session", "exceptions"))
    except ImportError as error:
        raise UsageError("s3:// needs a client that is not installed: pip install 'worldline[s3]'") from error
    try:
        resolver = boto.Session(profile=options.get("profile")).get_component("credential_provider")
        resolver.providers = [each for each in resolver.providers if each.METHOD not in ASKING]
        found = resolver.load_credentials()
    except errors.BotoCoreError as error:
        raise UsageError(f"Credentials for s3:// cannot be read ({error}): mend ~/.aws, or set AWS_PROFILE") from error
    if found is None:
        raise UsageError(NO_S3)
    return f"{found.method}, as boto calls it"
