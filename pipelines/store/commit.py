"""How a finished draft becomes an artefact: hash and sync every file, write the manifest last, rename into place.

`Store.produce` calls `hashed`, then `commit`. A process killed between any two lines leaves a private folder and
nothing that anyone trusts.

Adoption: nothing is computed again when only a part of a parent changed that the stage does not read. Keys are known in
advance, so they follow from the parents' addresses, not from what the parents hold. A child that reads a part
(`Spec.parts`) therefore gets another key whenever anything of its parent changes. Before it is made, `Store.produce`
looks here for an artefact of the same stage, subject, code version and config whose inputs were the same bytes. Its
files are linked or copied into the draft, hashed on the way, and committed under the new key.
"""

import errno
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from pipelines.errors import WorldlineError
from pipelines.store import machine
from pipelines.store.artefact import Artefact, Draft
from pipelines.store.files import sha256_of, sync
from pipelines.store.machine import CostMeter
from pipelines.store.manifest import MANIFEST_NAME, FileEntry, Manifest, ParentEntry, PartEntry, digest
from pipelines.store.ref import Ref
from pipelines.store.stage_config import Spec, canonical_json

NO_HARD_LINK = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS)


def hashed(draft: Draft) -> tuple[FileEntry, ...]:
    """Every file of the draft, synced to the disk, with its size and hash. Raises ValueError for a link."""
    files = []
    for path in draft.files():
        sync(path)
        name = path.relative_to(draft.folder).as_posix()
        files.append(FileEntry(name, path.stat().st_size, sha256_of(path)))
    return tuple(files)


def parent_entries(spec: Spec, parents: dict[Ref, Artefact]) -> tuple[ParentEntry, ...]:
    """How the manifest pins each parent. A parent that names no such part (an old one) is pinned as a whole."""
    entries = []
    for ref, part in zip(spec.parents, spec.parts or [""] * len(spec.parents), strict=True):
        found = parents[ref].manifest.parts.get(part)
        pin = (part, found.sha256, "") if found else ("", "", parents[ref].manifest.content)
        entries.append(ParentEntry(str(ref), parents[ref].digest, *pin))
    return tuple(entries)


def commit(
    draft: Draft, files: tuple[FileEntry, ...], meter: CostMeter, target: Path, source: Artefact | None
) -> Artefact:
    """Write the manifest of `draft`, which consists of `files`, and rename its folder to `target`.

    source: the artefact whose files these are, where they were adopted. Raises WorldlineError when there is no file,
    ValueError when a part names a file that is not there.
    """
    if not files:
        raise WorldlineError(f"{draft.spec.ref} produced no file: this is a fault of the stage, please report it")
    raw = _manifest(draft, files, meter, source).to_bytes()
    for folder in sorted(path for path in draft.folder.rglob("*") if path.is_dir()):
        sync(folder)
    (draft.folder / MANIFEST_NAME).write_bytes(raw)
    sync(draft.folder / MANIFEST_NAME)
    sync(draft.folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    former = draft.folder.with_name(f"{draft.folder.name}.former")
    if target.exists():  # one that is to be made anew, or a folder without a manifest
        target.rename(former)
    draft.folder.rename(target)
    sync(target.parent)
    shutil.rmtree(former, ignore_errors=True)
    return Artefact(draft.spec.ref, target, Manifest.from_bytes(raw, str(target)), digest(raw))


def _manifest(draft: Draft, files: tuple[FileEntry, ...], meter: CostMeter, source: Artefact | None) -> Manifest:
    spec = draft.spec
    cost = meter.read()
    cost["bytes_in"] = float(sum(parent.manifest.total_bytes for parent in draft.parents.values()))
    cost["bytes_out"] = float(sum(entry.bytes for entry in files))
    made = Manifest(
        stage=spec.stage,
        subject=spec.subject,
        key=spec.key,
        code_version=spec.code_version,
        config=spec.config,
        parents=parent_entries(spec, draft.parents),
        files=files,
        roots=tuple(draft.roots),
        counts=draft.counts,
        metrics=draft.metrics,
        checks=tuple(draft.checks),
        cost=cost,
        libraries=machine.library_versions(),
        machine=machine.describe(),
        git_commit=machine.git_commit(),
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        parts=_parts(draft, files),
    )
    if source is None:
        return made
    return replace(
        source.manifest,
        key=made.key,
        config=made.config,
        parents=made.parents,
        cost=made.cost,
        created=made.created,
        adopted=source.manifest.adopted or str(source.ref),
    )


def _parts(draft: Draft, files: tuple[FileEntry, ...]) -> dict[str, PartEntry]:
    entries = {entry.path: entry for entry in files}
    for name, (paths, _) in draft.parts.items():
        if absent := [path for path in paths if path not in entries]:
            raise ValueError(f"Part '{name}' names '{absent[0]}', which was not written: it holds {', '.join(entries)}")
    return {
        name: PartEntry.of((entries[path] for path in paths), content) for name, (paths, content) in draft.parts.items()
    }


# ---- adoption ----


def equals(draft: Draft, artefacts: Iterable[Artefact]) -> Iterator[Artefact]:
    """Those of `artefacts` (of the draft's stage and subject) that hold what its stage would write.

    An artefact that failed a blocking check is left out: it is made again, perhaps from a mended source.
    """
    spec = draft.spec
    config, inputs = canonical_json(spec.config), parent_entries(spec, draft.parents)
    for found in artefacts:
        manifest = found.manifest
        if (
            manifest.code_version == spec.code_version
            and canonical_json(manifest.config) == config
            and len(manifest.parents) == len(inputs)
            and all(now.same_input(then) for now, then in zip(inputs, manifest.parents, strict=True))
            and not any(check.blocking and not check.passed for check in manifest.checks)
        ):
            yield found


def adopt(draft: Draft, source: Artefact) -> tuple[FileEntry, ...] | None:
    """Fill the draft's folder with the files of `source`; None, and an empty folder, when they are not sound.

    Artefacts never change, so hard links are as good as copies and cost no room. Where the file system has none, the
    files are copied.
    """
    if not source.faults(rehash=False):
        for name in source.names():
            _link((source.folder / name).resolve(), draft.path(name))
        files = hashed(draft)
        if set(files) == set(source.manifest.files):
            return files
    shutil.rmtree(draft.folder)
    draft.folder.mkdir()
    return None


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in NO_HARD_LINK:
            raise
        shutil.copyfile(source, target)
