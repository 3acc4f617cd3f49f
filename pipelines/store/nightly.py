"""A night's share of the store: the artefacts whose turn it is are re-hashed, so that all are within so many nights.

An artefact's turn follows from its address and the date alone. Nothing is remembered from night to night, and what is
made or removed meanwhile moves nobody's turn. Command: `worldline verify`. Cost: about 1 s per GB of the share.
"""

import hashlib
from dataclasses import dataclass
from datetime import date

from pipelines.errors import Members, UsageError, WorldlineError
from pipelines.progress import size, track
from pipelines.store.artefact import Artefact
from pipelines.store.lineage import manifest_faults
from pipelines.store.ref import Ref
from pipelines.store.store import Store, maker

NIGHTS = 30


@dataclass(frozen=True)
class Share:
    """What was looked at: `artefacts` and their `bytes`, of `total` in the store; `faults` has a line for each."""

    artefacts: int
    bytes: int
    total: int
    faults: tuple[str, ...]

    def __str__(self) -> str:
        wrong = f"{len(self.faults)} faults" if self.faults else "every file as its manifest says"
        return f"Re-hashed {self.artefacts} of {self.total} artefacts, {size(self.bytes)}: {wrong}"


def is_due(ref: Ref, day: date, nights: int) -> bool:
    """Whether it is an artefact's turn: on one of any `nights` days in a row."""
    number = int.from_bytes(hashlib.sha256(str(ref).encode()).digest()[:8])
    return (number + day.toordinal()) % nights == 0


def verify_share(store: Store, day: date, nights: int = NIGHTS) -> Share:
    """Re-hash every file of every artefact whose turn it is, and read all manifests.

    A damaged manifest is a fault on any day. Raises UsageError for less than one night.
    """
    if nights < 1:
        raise UsageError(f"A share of 1 in {nights} nights is impossible: give at least 1, which is all of it")
    members = Members()
    found = list(store.artefacts(members=members))
    share = [artefact for artefact in found if is_due(artefact.ref, day, nights)]
    faults = [f"{address}: {why}" for address, why in members.failed.items()]
    with track("Verify", total=len(share), unit="artefacts") as advance:
        for artefact in share:
            faults += _faults(store, artefact)
            advance(1, str(artefact.ref))
    total = len(found) + len(members.failed)
    return Share(len(share), sum(each.manifest.total_bytes for each in share), total, tuple(faults))


def _faults(store: Store, artefact: Artefact) -> list[str]:
    """A line for each fault, with its repair; none of what was removed or made anew meanwhile."""
    ref = artefact.ref
    try:
        damage = [*artefact.faults(rehash=True), *manifest_faults(artefact)]
        strangers = artefact.unlisted()
        if damage or strangers:
            now = store.find(ref)
            if now is None or now.digest != artefact.digest:
                return []
    except WorldlineError as error:  # the others are looked at all the same
        return [f"{ref}: {error}"]
    repair = f"delete {artefact.where} and make it again ({maker(ref.stage)})"
    lines = [f"{ref} is damaged: {detail}; {repair}" for detail in damage]
    return lines + [f"{ref}: {path} is not in its manifest: move it elsewhere" for path in strangers]
