"""Costs grow with work and are JSON numbers."""

import json
import time

from pipelines.store.machine import CostMeter


def test_seconds_processor_time_and_memory_are_measured() -> None:
    meter = CostMeter()
    until = time.process_time() + 0.05
    while time.process_time() < until:
        pass
    cost = meter.read()
    assert 0.04 <= cost["cpu_seconds"] <= cost["seconds"] + 1.0
    assert cost["peak_bytes"] > 5e6
    assert json.loads(json.dumps(cost)) == cost
