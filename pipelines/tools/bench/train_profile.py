"""Where a training step's and encoding's time goes: the top lines of PyTorch's profiler, by operation."""

from collections.abc import Callable

from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

LINES = 10


def top_lines(title: str, call: Callable[[], object], gpu: bool = False) -> str:
    """A Markdown table of one call, after one that warms up: share of the time of all operations, how often each runs.

    With `gpu`, time on the device; else on the CPU, where an operation that waits for a core counts the wait.
    """
    activities = [ProfilerActivity.CPU, ProfilerActivity.CUDA] if gpu else [ProfilerActivity.CPU]
    call()
    with profile(activities=activities) as profiled:
        call()
    spent = {}
    for entry in profiled.key_averages():
        if gpu and entry.device_type != DeviceType.CUDA:
            continue  # a launch; its kernel has an entry of its own
        spent[entry.key] = (entry.self_device_time_total if gpu else entry.self_cpu_time_total, entry.count)
    total = sum(time for time, _ in spent.values()) or 1
    lines = [f"| {title}, top {LINES} | share | times |", "|---|---|---|"]
    for key, (time, count) in sorted(spent.items(), key=lambda item: -item[1][0])[:LINES]:
        lines.append(f"| `{key[:80]}` | {time / total:.1%} | {count} |")
    return "\n".join(lines)
