"""Adoption: nothing is computed again when only a part of a parent changed that the stage does not read.

Keys are known in advance, so they follow from the parents' addresses, not from what the parents hold. A child that
reads a part (`Spec.parts`) therefore gets another key whenever anything of its parent changes. Before it is made,
`Store.produce` looks here for an artefact of the same stage, subject, code version and config whose inputs were the
same bytes. Its files are linked or copied into the draft, hashed on the way, and committed under the new key.
"""

import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from pipelines.store.artefact import Artefact, Draft
from pipelines.store.commit import hashed, parent_entries
from pipelines.store.manifest import FileEntry
from pipelines.store.stage_config import canonical_json

NO_HARD_LINK = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS)


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
