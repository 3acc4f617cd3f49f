"""Everything Dagster loads (`workspace.yaml` names this module).

One process per run: a new process per step would cost 1.3 s each, and our steps parallelise inside.
"""

import dagster as dg

from assets import data, evaluation, learning
from assets.automation import SCHEDULES, SENSORS
from assets.jobs import JOBS
from assets.resources import House

ASSETS = [*data.ASSETS, *learning.ASSETS, *evaluation.ASSETS]

defs = dg.Definitions(
    assets=ASSETS,
    jobs=list(JOBS.values()),
    schedules=SCHEDULES,
    sensors=SENSORS,
    resources={"house": House()},
    executor=dg.in_process_executor,
)
