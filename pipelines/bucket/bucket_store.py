"""A store whose artefacts lie in a bucket: `artefact_root: gs://BUCKET/PREFIX` (or s3://) in the storage profile.

    PREFIX/files/STAGE/SUBJECT/KEY/DIGEST/...     the files of one artefact, by the digest of its manifest
    PREFIX/manifests/STAGE/SUBJECT/KEY.json       its manifest: with this object, and not before, it exists
    PREFIX/refs/NAME.json                         the pointers
    PREFIX/leases/STAGE/SUBJECT/KEY.json          who makes it now (lease.py)

An artefact is made on this machine as in a folder, and then stored: first its files, each compared with the checksum
that the bucket publishes, then its manifest, on the condition that none is there. Of two machines that make the same
one at once, one stores it, and the other drops what it made and goes on with that. Locks hold for one machine; leases
have the others wait, but where a maker stalls for minutes two machines may compute the same. A process that is killed
before the manifest leaves files that no manifest names; what it had finished waits in `finished`, and is stored, not
made again, by the next run of the same command. A pointer is written without a condition: what it means does not depend
on what it meant, and the last one counts, as in a folder.

What is read is copied into `cache` first (cache.py), verified by the manifest. Trajectories and tokens that find no
room there are read in the bucket (stream.py); everything else that does not fit is refused in one line. A manifest that
was made anew elsewhere is seen here within seconds (small_objects.py). `gc` spares what was stored in the last day: its
name may be to come.
"""

import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

from pipelines.bucket.bucket_artefact import FILES, MANIFESTS, BucketArtefact, sure
from pipelines.bucket.bucket_object import BucketObject
from pipelines.bucket.cache import Cache, NoRoomError
from pipelines.bucket.lease import Lease
from pipelines.bucket.small_objects import SmallObjects
from pipelines.bucket.stream import BLOCKS_NAME, block_hashes
from pipelines.bucket.writing import WORKERS, WritableBucket
from pipelines.errors import MayPass, Members, WorldlineError
from pipelines.progress import say, track
from pipelines.store.artefact import Artefact, Draft, Report
from pipelines.store.files import locked, locked_now, writable
from pipelines.store.manifest import MANIFEST_NAME, FileEntry, Manifest, digest
from pipelines.store.profile import Profile
from pipelines.store.ref import Pointer, Ref
from pipelines.store.stage_config import Spec
from pipelines.store.store import REHASH_PARENTS_UP_TO, Store, flat, manifest_of, say_waiting

GRACE = 24 * 3600.0  # seconds
REFS, LEASES = "refs", "leases"  # folders of the bucket
OF_ARTEFACT = re.compile(r"(.+/[0-9a-f]{64})/")  # an address, and the digest of a manifest


class BucketStore(Store):
    """See the head of this file. `root` is this machine's part: copies, locks, drafts, what is not stored yet."""

    def __init__(self, url: str, root: Path, profile: Profile, remake: bool = False) -> None:
        super().__init__(root, profile.scratch_folder(), profile, remake)
        self.bucket = WritableBucket.of(url, profile)
        self._manifests = SmallObjects(self.bucket, MANIFESTS, self.root / "known" / MANIFESTS)
        self._refs = SmallObjects(self.bucket, REFS, self.root / "known" / REFS)
        self._cache = Cache(self.bucket, self.root / "cache", profile.cache_bytes)
        self._finished = Store(self.root / "finished")
        self._parsed: dict[Ref, tuple[str, Manifest, str]] = {}
        self._replaced: dict[Ref, BucketObject | None] = {}  # what stood there when we began
        self._ahead: list[float] = []  # the bucket's clock, once rights were asked for

    @property
    def where(self) -> str:
        return self.bucket.root

    # ---- reading ----

    def require_reachable(self) -> None:
        """Raises BucketError."""
        self._manifests.names()

    def require_rights(self) -> None:
        """Raises BucketError where artefacts cannot be written to the bucket. Asked once a process."""
        if not self._ahead:
            self._ahead.append(self.bucket.require_rights())

    def holds(self, ref: Ref) -> bool:
        return self._manifests.item(f"{ref}.json") is not None

    def find(self, ref: Ref) -> Artefact | None:
        """See Store; raises MayPass where the bucket does not answer."""
        with sure():
            found = self._manifests.read(f"{ref}.json")
        if found is None:
            return None
        raw, version = found
        if ref not in self._parsed or self._parsed[ref][0] != version:
            self._parsed[ref] = version, manifest_of(ref, raw, self._manifests.url(f"{ref}.json")), digest(raw)
        _, manifest, known = self._parsed[ref]
        return BucketArtefact(ref, self._cache.place(known), manifest, known, cache=self._cache)

    def artefacts(self, below: str = "", members: Members | None = None) -> Iterator[Artefact]:
        members = Members.or_strict(members)
        names = [name for name in self._manifests.names() if not below or name.startswith(f"{below}/")]
        self._manifests.fetch(names)
        for name in names:
            found = None
            with members.each(name.removesuffix(".json")):
                found = self.find(Ref.parse(name.removesuffix(".json")))
            if found is not None:
                yield found

    def raw_manifest(self, name: str) -> bytes:
        found = self._manifests.read(f"{name}.json")
        return b"" if found is None else found[0]

    def _faults_of_parent(self, artefact: Artefact) -> list[str]:
        """All of it comes here, where the cache has room; else its files do, one by one, when they are read."""
        if isinstance(artefact, BucketArtefact):
            with suppress(NoRoomError):
                artefact.bring(rehash=artefact.manifest.total_bytes <= REHASH_PARENTS_UP_TO)
                return []
        return artefact.faults(rehash=False)

    # ---- writing ----

    def produce(self, spec: Spec, build: Callable[[Draft], None]) -> Report:
        """See Store. Raises BucketError before anything is made where the bucket may not be written to."""
        if (found := self.standing(spec.ref)) is not None:
            self._drop_finished(spec.ref)
            return Report(found, skipped=True)
        self._replaced[spec.ref] = self._manifests.item(f"{spec.ref}.json")
        with self._leased(spec.ref):
            if (found := self._stored_now(spec.ref)) is not None:
                return Report(found, skipped=True)
            return super().produce(spec, build)

    @contextmanager
    def preparing(self, specs: Iterable[Spec]) -> Iterator[dict[Ref, tuple[Path, dict[Ref, Artefact]]]]:
        by_ref = {spec.ref: spec for spec in specs}
        with ExitStack() as held:
            for ref in sorted(by_ref):  # in one order, so that two who prepare never wait for each other
                if self.standing(ref) is None:
                    held.enter_context(self._leased(ref))
                    self._stored_now(ref)
            yield held.enter_context(super().preparing(by_ref.values()))

    @contextmanager
    def _leased(self, ref: Ref) -> Iterator[None]:
        """Have other machines wait, and wait for them, unless what they make stands by then."""
        self.require_rights()
        lease = Lease(self.bucket, f"{LEASES}/{ref}.json", self._machine())
        with (
            writable(self.root),
            locked(self.root / ".locks" / f"{flat(ref)}.lease", on_wait=partial(say_waiting, ref)),
            lease.held(partial(self._holds_other, ref), partial(say_waiting, ref, "another machine")),
        ):
            yield

    def _holds_other(self, ref: Ref) -> bool:
        """Whether another artefact stands there than when we began: somebody made it meanwhile."""
        now = self._manifests.item(f"{ref}.json")
        return now is not None and now != self._replaced.get(ref)

    def _machine(self) -> str:
        """A name of what the locks of this folder hold for."""
        path = self.root / ".machine"
        if not path.exists():
            self.root.mkdir(parents=True, exist_ok=True)
            aside = path.with_name(f".machine.{uuid.uuid4().hex[:8]}")
            aside.write_text(uuid.uuid4().hex)
            with suppress(FileExistsError):
                os.link(aside, path)  # of two processes the first names it
            aside.unlink()
        return path.read_text()

    def _stored_now(self, ref: Ref) -> Artefact | None:
        """What an earlier run finished here and could not store: it is stored now, if it still is what it should be."""
        with writable(self.root), locked(self.lock_path(ref)):
            try:
                made = self._finished.find(ref)
                sound = made is not None and not made.faults(rehash=True) and not self.stale(made)
            except MayPass:
                raise
            except WorldlineError:  # a damaged manifest
                made, sound = None, False
            if made is None or not sound:
                shutil.rmtree(self._folder(ref), ignore_errors=True)
                return None
            say(f"{ref} was made before and is stored now")
            stored = self._publish(made)
            shutil.rmtree(self.scratch / flat(ref), ignore_errors=True)
            return stored

    def _publish(self, made: Artefact) -> Artefact:
        """Upload the files, then the manifest, on the condition that what stands there is what stood there before."""
        stored = BucketArtefact(made.ref, self._cache.place(made.digest), made.manifest, made.digest, cache=self._cache)
        self._upload(made, stored.files_at)
        raw = (made.place / MANIFEST_NAME).read_bytes()
        if self._manifests.write(f"{made.ref}.json", raw, self._replaced.pop(made.ref, None)):
            self._cache.take(made.place, made.digest, made.manifest.total_bytes, str(made.ref))
            return stored
        shutil.rmtree(made.place)
        self.bucket.remove_all(stored.files_at)
        found = self.find(made.ref)
        if found is None:
            raise WorldlineError(f"{made.ref} was stored and removed by others while it was made: run this again")
        say(f"{made.ref} was stored by another machine meanwhile: that one counts, ours is dropped")
        return found

    def _upload(self, made: Artefact, at: str) -> None:
        there = self._sent(at)
        missing = [entry for entry in made.manifest.files if there.get(entry.path) != entry.bytes]
        total = sum(entry.bytes for entry in missing)
        with track(f"Store {made.ref}", total, "bytes") as advance, ThreadPoolExecutor(WORKERS, "store") as pool:
            send = partial(self._send, made, at)
            futures = {pool.submit(send, entry): entry for entry in missing}
            if hashes := block_hashes(made.place, made.manifest.files):
                self.bucket.put(f"{at}/{BLOCKS_NAME}", hashes)
            try:
                for future, entry in futures.items():
                    future.result()
                    advance(entry.bytes)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _sent(self, at: str) -> dict[str, int]:
        """What an earlier try uploaded, with its sizes; nothing so old that another's gc may be about to remove it."""
        found = self.bucket.written(at).items()
        return {name: each.bytes for name, each in found if self._now() - each.at < GRACE / 2}

    def _send(self, made: Artefact, at: str, entry: FileEntry) -> None:
        self.bucket.upload(made.place / entry.path, f"{at}/{entry.path}")

    def _drop_finished(self, ref: Ref) -> None:
        """Of a process that was killed between the manifest and the move into the cache."""
        if self._folder(ref).exists():
            with locked_now(self.lock_path(ref)) as free:
                if free:
                    shutil.rmtree(self._folder(ref), ignore_errors=True)

    # ---- names ----

    def names(self) -> list[str]:
        return [name.removesuffix(".json") for name in self._refs.names()]

    def raw_pointer(self, name: str) -> bytes | None:
        found = self._refs.read(self._object(name))
        return None if found is None else found[0]

    def write_pointer(self, name: str, pointer: Pointer) -> None:
        """See Pointers; what it means already is not written again. Raises BucketError."""
        if self.raw_pointer(name) != pointer.to_bytes():
            self._refs.put(self._object(name), pointer.to_bytes())

    def remove_pointer(self, name: str) -> None:
        self._refs.remove(self._object(name))

    def pointer_at(self, name: str) -> str:
        return self._refs.url(self._object(name))

    def _read_all(self, members: Members | None = None) -> dict[str, Pointer]:
        self._refs.fetch(self._refs.names())
        return super()._read_all(members)

    def _object(self, name: str) -> str:
        return self.pointer_path(name).relative_to(self.root / REFS).as_posix()

    # ---- removing ----

    def is_young(self, artefact: Artefact) -> bool:
        """Whether it was stored in the last day, by the bucket's clock."""
        written = self.bucket.written(f"{MANIFESTS}/{artefact.ref.stage}/{artefact.ref.subject}")
        found = written.get(f"{artefact.ref.key}.json")
        return found is None or self._now() - found.at < GRACE

    def remove(self, artefact: Artefact) -> None:
        """The manifest goes first: killed after it, the artefact is gone, and files remain that no manifest names."""
        item = self._manifests.item(f"{artefact.ref}.json")
        same = item is not None and self.find(artefact.ref) == artefact
        if item is None or not same or not self._manifests.remove(f"{artefact.ref}.json", item.version):
            say(f"{artefact.ref} was made anew meanwhile: it stays")
            return
        at = f"{FILES}/{artefact.ref}/{artefact.digest}"
        self.bucket.remove_all(at)
        self._cache.drop(artefact.digest)

    def orphans(self) -> dict[str, int]:
        """Files in the bucket that no manifest names, by their folder, and their bytes; none that came in the last day.

        Those of an artefact whose manifest cannot be read stay. And what was finished here while another was stored.
        """
        sizes: dict[str, int] = {}
        latest: dict[str, float] = {}
        for name, written in self.bucket.written(FILES).items():
            if artefacts_own := OF_ARTEFACT.match(name):
                folder = artefacts_own[1]
                sizes[folder] = sizes.get(folder, 0) + written.bytes
                latest[folder] = max(latest.get(folder, 0.0), written.at)
        members, named = Members(), set()
        for artefact in self.artefacts(members=members):
            named.add(f"{artefact.ref}/{artefact.digest}")
        named |= {folder for folder in sizes if folder.rpartition("/")[0] in members.failed}
        found = {
            f"{self.bucket.root}/{FILES}/{folder}": size
            for folder, size in sorted(sizes.items())
            if folder not in named and self._is_old(latest[folder])
        }
        leases = self.bucket.written(LEASES).items()  # of machines that died long ago
        found |= {f"{self.bucket.root}/{LEASES}/{name}": each.bytes for name, each in leases if self._is_old(each.at)}
        outrun = (made for made in self._finished.artefacts(members=Members()) if self.holds(made.ref))
        return found | {str(made.place): made.manifest.total_bytes for made in outrun}

    def drop(self, orphan: str) -> None:
        if Path(orphan).is_relative_to(self._finished.root):
            self._drop_finished(Ref.parse(Path(orphan).relative_to(self._finished.root).as_posix()))
            return
        at = orphan.removeprefix(f"{self.bucket.root}/")
        if at.startswith(f"{LEASES}/"):
            self.bucket.remove(at)
        written = self.bucket.written(at)
        if all(self._is_old(each.at) for each in written.values()):  # nobody sends it again
            self.bucket.remove_all(at, written)

    def _is_old(self, at: float) -> bool:
        return self._now() - at >= GRACE

    def _now(self) -> float:
        return time.time() + (self._ahead[0] if self._ahead else 0.0)

    # ---- inside ----

    def _folder(self, ref: Ref) -> Path:
        """Where a finished artefact waits until it is stored."""
        return self._finished.root / ref.stage / ref.subject / ref.key
