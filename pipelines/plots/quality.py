"""Quality of the behaviour data: mean return over the course of the collection, a panel per game.

The real set's agents improve from checkpoint to checkpoint; this plot shows whether the data at hand does too.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.ticker import MaxNLocator

from pipelines.plots import style


def draw(
    returns: Mapping[str, Sequence[float | None]], path: Path, part: str = "fifth of the collection", unit: str = "raw"
) -> None:
    """Write the PNG at `path`.

    returns: game -> mean return of each part in order, None for a part without a finished episode; `part` names
    what is counted (a fifth, a checkpoint), `unit` the reward ("raw" or "clipped"). Raises ValueError when empty.
    """
    if not returns:
        raise ValueError(f"Nothing to draw in {path.name}: no game has behaviour data")
    drawn, panels = style.grid(len(returns), columns=4)
    for (game, means), axes in zip(returns.items(), panels, strict=True):
        style.quieten(axes, game)
        values = np.array([np.nan if mean is None else mean for mean in means], dtype=float)
        places = np.arange(1, values.size + 1)
        axes.plot(places, values, color=style.BEHAVIOUR, linewidth=1.8, marker="o", markersize=4)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        axes.margins(x=0.08, y=0.18)
        axes.set_xlabel(part, fontsize=7.5, color=style.QUIET)
        axes.set_ylabel(f"mean {unit} return", fontsize=7.5, color=style.QUIET)
        if values.size <= 8:
            for place, value in zip(places, values, strict=True):
                if np.isfinite(value):
                    axes.annotate(
                        f"{value:.3g}",
                        (place, value),
                        ha="center",
                        xytext=(0, 5),
                        textcoords="offset points",
                        fontsize=7.5,
                        color=style.INK,
                    )
    style.save(drawn, path)
