"""Shards of a bucket on this machine's disk: fetched once for all workers and ranks, checked, and soon let go of.

What is kept is bounded: room for a new shard is made by deleting those that nobody read for the longest time. Whoever
wants one of these again fetches it again. Shards that are files of this machine are read where they lie.
"""

import hashlib
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from pipelines.batches.shards import ShardSet
from pipelines.errors import WorldlineError
from pipelines.store.files import locked


class ShardCache:
    """At most `limit` bytes of shards in `folder`, beside one that is larger. Processes share it through locks."""

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder, self._limit = folder, limit

    def read(self, export: ShardSet, shard: int) -> bytes:
        """One whole shard, whose sha256 was compared. Raises as `ShardSet.read`."""
        if export.is_local:
            return export.read(shard)
        sha256 = export.shards[shard].sha256
        path = self._folder / f"{sha256}.tar"
        if (kept := _kept(path, sha256)) is not None:
            return kept
        with locked(self._folder / f"lock-{sha256[:2]}"):
            if (kept := _kept(path, sha256)) is not None:  # another process was faster
                return kept
            raw = export.read(shard)
            self._keep(path, raw)
        return raw

    def _keep(self, path: Path, raw: bytes) -> None:
        with locked(self._folder / "lock-room"):
            found = sorted((each.stat().st_mtime_ns, each.stat().st_size, each) for each in self._folder.glob("*.tar"))
            room = self._limit - sum(size for _, size, _ in found)
            for _, size, oldest in found:
                if room >= len(raw):
                    break
                oldest.unlink()
                room += size
            aside = path.with_name(f".{path.name}.{os.getpid()}")
            aside.write_bytes(raw)
            aside.replace(path)


class Ahead:
    """Brings shards into the cache in a thread, before they are asked for. What fails there is met again later."""

    def __init__(self, cache: ShardCache) -> None:
        self._cache, self._stop, self._thread = cache, threading.Event(), threading.Thread()

    def fetch(self, export: ShardSet, shards: Sequence[int]) -> None:
        """Begin with these, unless the last ones are still under way: those come first."""
        if export.is_local or self._thread.is_alive():
            return
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, args=(export, list(shards)), daemon=True, name="shards-ahead")
        self._thread.start()

    def close(self) -> None:
        """End the thread after the shard that it is at: it must not live on in a fork."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self, export: ShardSet, shards: list[int]) -> None:
        for shard in shards:
            if self._stop.is_set():
                return
            try:
                self._cache.read(export, shard)
            except (WorldlineError, OSError):
                return


def _kept(path: Path, sha256: str) -> bytes | None:
    """The copy, None where there is none or it is damaged."""
    try:
        raw = path.read_bytes()
        os.utime(path, ns=(now := time.time_ns(), now))  # the kernel's own clock for it is some milliseconds behind
    except OSError:
        return None
    return raw if hashlib.sha256(raw).hexdigest() == sha256 else None
