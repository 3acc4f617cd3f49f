"""Pictures and page of a diagnosis: what is best by whom, ranks, the bias of rare actions, values against returns.

The page is one HTML file that loads nothing; every text in it is escaped.
"""

import base64
import html
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes

from pipelines.evaluation.verdict import Findings
from pipelines.plots import style

if TYPE_CHECKING:
    from pipelines.evaluation.look_ahead import Looked

BY = (("best_by_q", "Q"), ("best_by_imagined", "imagined step"), ("best_by_real", "emulator's step"))
STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#20262e}"
    "img{max-width:100%}table{border-collapse:collapse}td,th{padding:.2rem .8rem;text-align:left;"
    "border-bottom:1px solid #e6e9ed}td:nth-child(2){text-align:right;font-variant-numeric:tabular-nums}"
)
ROWS = (  # of the page: a number's name and what it says
    ("q_agrees_with_real", "states in which Q and the emulator's next state prefer the same action"),
    ("imagined_agrees_with_real", "states in which the imagined and the emulator's step prefer the same action"),
    (
        "ranks_q_real",
        "rank correlation over actions of Q and the emulator's step; below 0, Q prefers what it values less",
    ),
    (
        "ranks_imagined_real",
        "rank correlation over actions of imagined and emulator's steps; 1 for a perfect world model",
    ),
    ("spread", "how much the actions' next states differ in worth (standard deviation)"),
    ("imagined_error", "how far imagined and real next states are apart in worth; above the spread, noise decides"),
    ("going_error", "the same of steps that end no episode: a real end is worth nothing, and a search reads no ends"),
    ("ends", "tried steps that end the episode in the emulator"),
    ("imagined_ends", "tried steps that end it in imagination"),
    ("rewards_right", "imagined rewards whose sign is the emulator's"),
    (
        "rewards_ranked",
        "chance that of two tried steps the one that really brings more is imagined to; 0.5: no reward is foreseen",
    ),
    ("apart", "tokens in which the next frames of two actions differ in the emulator"),
    ("imagined_apart", "the same of imagined next frames; far fewer, and the world model hardly reads actions"),
    ("promised", "what a perfect world model's best step promises above greedy play's"),
    (
        "rarity_bias",
        "correlation of the log of an action's share in the data with the worth behind it; near -1, rare actions lure",
    ),
    ("returns_correlation", "correlation of max Q with the discounted returns of the play"),
    ("returns_excess", "max Q above those returns, mean"),
)


def draw(found: Findings, looked: "Looked", path: Path) -> None:
    """Write the PNG of four panels."""
    drawn, panels = style.grid(4, columns=2, width=4.6, height=2.9)
    _best(panels[0], found)
    _scatter(
        panels[1], "next states' worth", looked.real_SA.ravel(), looked.imagined_SA.ravel(), "emulator", "imagined"
    )
    _rarity(panels[2], found, looked)
    known = looked.known_S
    _scatter(
        panels[3],
        "max Q and returns of the play",
        looked.returns_S[known],
        looked.q_SA.max(1)[known],
        "return",
        "max Q",
    )
    style.save(drawn, path)


def _best(axes: Axes, found: Findings) -> None:
    """In how many states each action is best, by Q and by both steps."""
    style.quieten(axes, "best action, by")
    places = np.arange(len(found.actions))
    for number, ((name, label), (_, colour)) in enumerate(zip(BY, style.colours([n for n, _ in BY]), strict=True)):
        axes.bar(places + (number - 1) * 0.27, getattr(found, name), width=0.25, color=colour, label=label)
    axes.set_xticks(places, found.actions, rotation=0 if len(places) < 7 else 70)
    axes.legend(frameon=False, fontsize=7.5, labelcolor=style.INK)


def _scatter(axes: Axes, title: str, x: np.ndarray, y: np.ndarray, across: str, up: str) -> None:
    """Points and the line on which both are equal."""
    style.quieten(axes, title)
    axes.scatter(x, y, s=9, color=style.SERIES[0], alpha=0.6, linewidths=0)
    if len(x):
        ends = [min(x.min(), y.min()), max(x.max(), y.max())]
        axes.plot(ends, ends, color=style.QUIET, linewidth=0.8)
    axes.set_xlabel(across, fontsize=7.5, color=style.QUIET)
    axes.set_ylabel(up, fontsize=7.5, color=style.QUIET)


def _rarity(axes: Axes, found: Findings, looked: "Looked") -> None:
    """Each action's share in the data and the worth behind it."""
    style.quieten(axes, "worth behind an action, and its share in the data")
    if found.shares is None:
        axes.text(0.5, 0.5, "no data known", ha="center", transform=axes.transAxes, color=style.QUIET)
        return
    worth_A = (looked.real_SA - looked.real_SA.mean(1, keepdims=True)).mean(0)
    axes.scatter(found.shares, worth_A, s=14, color=style.SERIES[1])
    named = {*np.argsort(found.shares)[-3:].tolist(), int(worth_A.argmax()), int(worth_A.argmin())}
    for place in sorted(named):
        axes.annotate(found.actions[place], (found.shares[place], worth_A[place]), fontsize=7, color=style.INK)
    if min(found.shares) > 0:
        axes.set_xscale("log")
    axes.set_xlabel("share", fontsize=7.5, color=style.QUIET)


def page(found: Findings, title: str, picture: Path, path: Path) -> None:
    """Write the page: the verdict, the points, the numbers with what they say, the picture."""
    source = base64.b64encode(picture.read_bytes()).decode()
    points = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{mean:.4g}</td>"
        f"<td>standard error {error:.2g}{_gain(found, name)}</td></tr>"
        for name, (mean, error) in found.points.items()
    )
    numbers = "".join(
        f"<tr><td>{html.escape(name.replace('_', ' '))}</td><td>{_number(getattr(found, name))}</td>"
        f"<td>{html.escape(about)}</td></tr>"
        for name, about in ROWS
    )
    path.write_text(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{STYLE}</style><h1>{html.escape(title)}</h1>"
        f"<p><strong>What fails: {html.escape(found.fails)}.</strong> {html.escape(found.words)}.</p>"
        f'<img alt="four panels of the diagnosis" src="data:image/png;base64,{source}">'
        f"<h2>Points by each choice</h2><table>{points}</table><h2>Numbers</h2><table>{numbers}</table></html>"
    )


def _gain(found: Findings, name: str) -> str:
    """What a choice brings above greedy play of the same seeds."""
    if name not in found.gains:
        return ""
    mean, error = found.gains[name]
    return f"; {mean:+.3g} above greedy, standard error {error:.2g}"


def _number(value: float | None) -> str:
    return "not known" if value is None else f"{value:.3f}"
