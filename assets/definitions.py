"""Everything Dagster loads (`workspace.yaml` names this module).

One process per run: a new process per step would cost 1.3 s each, and our steps parallelise inside.
"""

import dagster as dg

from assets.automation import SCHEDULES, SENSORS
from assets.jobs import ingest, learn
from assets.resources import Installation
from assets.stages import ASSETS, JOBS
from assets.verify import verify_job

defs = dg.Definitions(
    assets=ASSETS,
    jobs=[*JOBS.values(), ingest, learn, verify_job],
    schedules=SCHEDULES,
    sensors=SENSORS,
    resources={"installation": Installation()},
    executor=dg.in_process_executor,
)
