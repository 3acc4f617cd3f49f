"""Weights & Biases, an extra: `pip install 'worldline[wandb]'`, then `loop.wandb=PROJECT`.

WANDB_MODE=offline keeps everything in WORLDLINE_HOME/wandb (or WANDB_DIR), whatever becomes of the run; `wandb sync`
sends it later.
"""

import importlib
import os
from pathlib import Path
from typing import Any

from pipelines import home
from pipelines.errors import UsageError, WorldlineError


class WandbLog:
    """Sends rows to the run that is named after the scratch folder; a resumed run goes on in it."""

    def __init__(self, project: str, folder: Path) -> None:
        try:
            wandb = importlib.import_module("wandb")
        except ImportError as error:
            raise UsageError(
                f"loop.wandb={project} needs Weights & Biases, which is not installed: pip install 'worldline[wandb]'"
            ) from error
        where = os.environ.get("WANDB_DIR") or str(home.home())
        try:
            self._run = wandb.init(project=project, id=folder.name.replace("@", "-"), dir=where, resume="allow")
        except wandb.Error as error:
            raise WorldlineError(
                f"Weights & Biases does not take loop.wandb={project} ({' '.join(str(error).split())[:200]}): log in "
                "by 'wandb login', or set WANDB_MODE=offline"
            ) from error

    def write(self, row: dict[str, Any]) -> None:
        """Every number of the row, as `phase/name` at its step."""
        named = {f"{row['phase']}/{name}": row[name] for name in row if name not in ("phase", "step", "seconds")}
        self._run.log(named, step=row["step"])

    def close(self) -> None:
        """Wait until all is sent, or written."""
        self._run.finish()
