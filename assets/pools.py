"""The pools: how many runs of the stages that share one may go at a time, shown and set under names that stages use.

Dagster keeps the numbers in its database, and would make a pool of any name that it is told, which then limits nothing.
`worldline pools` shows them, `worldline pools gpu=2` sets one; the daemon reads them whenever it starts a run.
"""

from collections.abc import Sequence

import dagster as dg
from rich.table import Table

from pipelines.errors import UsageError, unknown
from pipelines.graph import table
from pipelines.progress import printer

POOLS = {"gpu": 1, "network": 4, "disk": 2}  # of a new home; then the user's own numbers
MOST = 1000  # runs; Dagster's own bound


def read(changes: Sequence[str]) -> dict[str, int]:
    """The numbers by pool of what a person typed: `gpu=2`. Raises UsageError for an unknown pool or a wrong number."""
    found = {}
    for asked in changes:
        pool, _, number = (part.strip() for part in asked.partition("="))
        if pool not in POOLS:
            raise unknown("pool", pool, POOLS, "'worldline pools' shows which stages share one")
        if not (number.isascii() and number.isdigit() and len(number) < 9 and int(number) <= MOST):
            raise UsageError(
                f"'{asked}' says no number of runs: write {pool}=2, a whole number from 0 (none begins) to {MOST}"
            )
        found[pool] = int(number)
    return found


def change(instance: dg.DagsterInstance, numbers: dict[str, int]) -> None:
    """Set the numbers of some pools; of the others they stay."""
    for pool, number in numbers.items():
        instance.event_log_storage.set_concurrency_slots(pool, number)


def show(instance: dg.DagsterInstance) -> None:
    """Print every pool with its number and the stages that share it; those too that Dagster was told of in vain."""
    view = Table("pool", "runs at a time", "stages", box=None, header_style="bold")
    limits = {each.name: each.limit for each in instance.event_log_storage.get_pool_limits()}
    for pool in [*POOLS, *sorted(limits.keys() - POOLS.keys())]:
        stages = ", ".join(row.name for row in table.STAGES if row.pool == pool)
        view.add_row(
            pool, str(limits.get(pool, "1, as of pools without a number")), stages or "none: it limits nothing"
        )
    printer().print(view, soft_wrap=True, highlight=False)
