"""What a stage used: wall seconds, CPU seconds (children included) and peak memory of this process, in bytes."""

import os
import resource
import time
from dataclasses import dataclass, field


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


@dataclass
class CostMeter:
    """Start it by making it, read it with `read()`."""

    started: float = field(default_factory=time.monotonic)
    cpu_started: float = field(default_factory=_cpu_seconds)

    def read(self) -> dict[str, float]:
        """`peak_bytes` is the process's high-water mark so far (ru_maxrss counts KiB on Linux)."""
        return {
            "seconds": round(time.monotonic() - self.started, 3),
            "cpu_seconds": round(_cpu_seconds() - self.cpu_started, 3),
            "peak_bytes": float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024),
        }
