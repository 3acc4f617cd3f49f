"""One artefact made by many ranks: the first goes through the store, the others work along and write nothing."""

import itertools
from collections.abc import Callable

from pipelines.errors import WorldlineError
from pipelines.store.artefact import Artefact, Draft, Report
from pipelines.store.ref import Ref
from pipelines.store.stage_config import Spec
from pipelines.store.store import Store, flat
from pipelines.training.distributed.ranks import Ranks, join

Build = Callable[[Draft, Ranks], None]

GO, SKIP, DONE = "go", "skip", "done"

_turns = itertools.count()


def produce(store: Store, spec: Spec, build: Build) -> Report:
    """`store.produce` for all ranks of this run; each gets the report. Every rank must call it, in the same order.

    `build(draft, ranks)` runs on every rank; on those that are not the first it must return before it writes a file.
    The store and its scratch folder must be the same for all ranks. When one fails, all do: see `Ranks.together`.
    """
    ranks = join()
    turn = f"{next(_turns)}/{spec.ref}"
    with ranks.together():
        return _lead(ranks, store, spec, build, turn) if ranks.first else _follow(ranks, store, spec, build, turn)


def _lead(ranks: Ranks, store: Store, spec: Spec, build: Build, turn: str) -> Report:
    def begin(draft: Draft) -> None:
        ranks.tell(f"{turn}/begin", GO)
        build(draft, ranks)

    report = store.produce(spec, begin)
    if report.skipped:
        ranks.tell(f"{turn}/begin", SKIP)
    ranks.tell(f"{turn}/end", DONE)
    return report


def _follow(ranks: Ranks, store: Store, spec: Spec, build: Build, turn: str) -> Report:
    word = ranks.hear(f"{turn}/begin")
    if word == GO:  # the first rank holds the lock and has verified the parents
        parents = {ref: _found(store, ref) for ref in spec.parents}
        scratch = store.scratch / flat(spec.ref)
        build(Draft(spec, scratch / f"rank-{ranks.rank}", scratch, parents), ranks)
    ranks.hear(f"{turn}/end")
    return Report(_found(store, spec.ref), skipped=word == SKIP)


def _found(store: Store, ref: Ref) -> Artefact:
    artefact = store.find(ref)
    if artefact is None:
        raise WorldlineError(f"{ref} is not in {store.root}, as another rank sees it: all ranks need the same store")
    return artefact
