"""The ways to read an agent's logs, as FetchConfig names them. A plan and the stage read alike through this."""

from collections import Counter
from collections.abc import Sequence

from pipelines.configs.data import FetchConfig
from pipelines.errors import WorldlineError
from pipelines.replay.log_files import REPAIR
from pipelines.replay.per_file import read_per_file
from pipelines.replay.ring_log import RingLog
from pipelines.replay.stitch import Stitched, stitch


def read(config: FetchConfig, logs: Sequence[RingLog]) -> Stitched:
    """The episodes of these logs (at least one, ascending). Raises WorldlineError for logs that cannot be read so."""
    size = stack_size(logs, f"{config.game}/{config.agent}")
    if config.compat:
        return read_per_file(logs, config.agent, size)
    return stitch(logs, config.agent, size, keep_padding=config.keep_padding)


def stack_size(logs: Sequence[RingLog], where: str) -> int:
    """The writer's frame stack: invalid_range names one row more in most logs. One that does not fails its check."""
    size, _ = Counter(len(log.invalid_range) for log in logs).most_common(1)[0]
    if size < 2:
        raise WorldlineError(f"{where}: invalid_range has length {size}, it must be stack size + 1: {REPAIR}")
    return size - 1
