"""What `worldline doctor --storage NAME` looks at of a storage profile: its folders, who reads its bucket, proxies.

No secret is told. The network is asked by `source` alone, for a profile that was named.
"""

import importlib
import tempfile
import urllib.request
from urllib.parse import urlsplit

from pipelines.bucket.bucket import Bucket
from pipelines.bucket.clients import LOCAL, protocol
from pipelines.bucket.credentials import origin
from pipelines.errors import UsageError, WorldlineError
from pipelines.home import current_profile, open_store
from pipelines.progress import size
from pipelines.redact import one_line
from pipelines.tools.doctor import Finding, finding, nearest

PROBE_BYTES = 16


def profile(name: str | None) -> Finding:
    """The profile loads, the store's folder here can be written, and a replay root on this machine exists."""
    from pipelines.sources.source import source_of

    try:
        found = current_profile(name)
        store = open_store(found)
        root = store.root
    except Exception as error:
        return Finding("storage", False, str(error), "choose another with --storage or WORLDLINE_STORAGE")
    try:
        with tempfile.NamedTemporaryFile(dir=nearest(root)):
            pass
    except OSError as error:
        repair = "set WORLDLINE_HOME, or artefact_root in the profile, to a folder you own"
        return Finding("storage", False, f"{found.name}: {root} is not writable ({error.strerror})", repair)
    value = f"{found.name}: {store.where}" + (f", copies in {root}" if found.artefact_bucket else "")
    if found.replay_root is None:
        return Finding("storage", True, value)
    try:
        holds = source_of(found.layout).holds
    except UsageError as error:
        return Finding("storage", False, f"{found.name}: {error}", "correct it there")
    if protocol(found.replay_root) not in LOCAL:
        return Finding("storage", True, f"{value}, replay from {found.replay_root} (not tried)")
    fsspec = importlib.import_module("fsspec")
    filesystem, path = fsspec.core.url_to_fs(found.replay_root)
    repair = f"set replay_root in the profile to a folder that holds {holds}"
    return finding("storage", filesystem.exists(path), f"{value}, replay from {found.replay_root}", repair)


def credentials(name: str | None) -> Finding:
    """Who reads the profile's buckets: found, or not found, or not readable."""
    try:
        found = current_profile(name)
    except WorldlineError:
        return Finding("credentials", True, "not looked for, as the storage profile cannot be read")
    kinds = {protocol(url) for url in (found.replay_root, found.artefact_bucket) if url} - set(LOCAL)
    if not kinds:
        return Finding("credentials", True, "none needed: replay and artefacts are on this machine")
    try:
        told = ", ".join(sorted({one_line(origin(kind, found.options)) for kind in kinds}))
        return Finding("credentials", True, f"{found.name}: {told}")
    except WorldlineError as error:
        value, _, repair = str(error).partition(": ")
        return Finding("credentials", False, f"{found.name}: {value}", repair)


def source(name: str) -> Finding:
    """What the profile's replay root answers: which game it holds, whether it may be listed, whether it gives bytes."""
    from pipelines.sources.dqn_replay.listing import ELSEWHERE
    from pipelines.sources.source import source_of

    try:
        found = current_profile(name)
        if found.replay_root is None:
            return Finding("source", True, f"{name}: replay is collected here, no bucket is read")
        bucket = Bucket.of(found.replay_root, found)
        run, objects = source_of(found.layout).probe(bucket)
        smallest = min(objects, key=lambda item: item.bytes)
        given = len(bucket.read_range(smallest, 0, PROBE_BYTES))
    except WorldlineError as error:
        value, _, repair = str(error).rpartition(": ")
        return Finding("source", False, value or repair, repair if value else ELSEWHERE)
    room = size(sum(item.bytes for item in objects))
    value = f"{bucket.root} answers: {run} has {len(objects)} objects of {room}"
    return finding("source", given > 0, f"{value}, and {given} bytes of one were read", ELSEWHERE)


def artefacts(name: str) -> Finding:
    """Whether a bucket takes artefacts, where the profile puts them into one: an object is written and removed."""
    try:
        found = current_profile(name)
        if not found.artefact_bucket:
            return Finding("artefacts", True, "in no bucket, but in the folder that 'storage' tells")
        store = open_store(found)
        store.require_rights()
    except WorldlineError as error:
        value, _, repair = str(error).rpartition(": ")
        return Finding("artefacts", False, value or repair, repair if value else "set artefact_root in the profile")
    return Finding("artefacts", True, f"{store.where} takes them")


def proxies() -> Finding:
    """The proxies of the environment, which every kind of bucket takes; without their passwords."""
    known = urllib.request.getproxies_environment()
    spared = known.pop("no", "")
    used = {kind: url for kind, url in sorted(known.items()) if kind in ("http", "https")}
    if not used:
        return Finding("proxies", True, "none (HTTPS_PROXY and HTTP_PROXY are not set)")
    value = ", ".join(f"{kind} through {one_line(url)}" for kind, url in used.items())
    value += f", but for {spared}" if spared else ""
    for kind, url in used.items():
        if not _is_proxy(url):
            repair = f"write {kind.upper()}_PROXY=http://HOST:PORT, the one kind that all clients take"
            return Finding("proxies", False, value, repair)
    return Finding("proxies", True, value)


def _is_proxy(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme == "http" and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number
        return False
