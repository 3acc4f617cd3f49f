"""The child of a training asset: trains as the command line does, and tells Dagster how it goes.

Started by `assets.pipes` alone. Metrics are read from the file that training appends to, so that the loop knows nothing
of Dagster.
"""

import json
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dagster_pipes import PipesContext, open_dagster_pipes

from assets.pipes import OBSERVE_SECONDS
from pipelines.errors import WorldlineError, unforeseen
from pipelines.graph.launch import Job, launch
from pipelines.redact import redact

POLL_SECONDS = 0.2


def main() -> int:
    """Exit code 0 when the artefact stands."""
    with open_dagster_pipes() as pipes:
        wanted = pipes.get_extra("job")
        job = Job(wanted["stage"], wanted["experiment"], wanted["game"])
        try:
            with reporting(pipes, Path(pipes.get_extra("metrics")), OBSERVE_SECONDS):
                report = launch(job, wanted["ranks"])
            pipes.log.info(str(report))
            pipes.report_custom_message({"skipped": report.skipped})
        except WorldlineError as error:
            pipes.report_custom_message({"failure": str(error), "exit_code": error.exit_code})
            return error.exit_code
        except KeyboardInterrupt:
            pipes.report_custom_message({"failure": "Interrupted: the next run goes on from there.", "exit_code": 1})
            raise
        except Exception as error:
            print(redact(traceback.format_exc()), file=sys.stderr)
            pipes.report_custom_message({"failure": unforeseen(error), "exit_code": WorldlineError.exit_code})
            return WorldlineError.exit_code
    return 0


@contextmanager
def reporting(pipes: PipesContext, path: Path, seconds: float) -> Iterator[None]:
    """Tell the newest row of metrics.jsonl while the body runs: the first at once, then one in so many seconds."""
    done = threading.Event()

    def report() -> None:
        told, due = "", time.monotonic()
        while not done.wait(POLL_SECONDS):
            line = newest(path)
            if line and line != told and time.monotonic() >= due:
                told, due = line, time.monotonic() + seconds
                row = json.loads(line)
                numbers = {name: value for name, value in row.items() if isinstance(value, int | float)}
                pipes.report_custom_message({"metrics": numbers})
                pipes.log.info(line)

    thread = threading.Thread(target=report, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def newest(path: Path) -> str:
    """The last whole row; empty where there is none yet."""
    try:
        whole = path.read_text(encoding="utf-8").rpartition("\n")[0]
    except OSError:  # training has not begun, or is over
        return ""
    return whole.rpartition("\n")[2]
