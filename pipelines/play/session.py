"""One game that is being shown: a thread of its own steps the mode, at its own pace, whatever the viewers do.

Orders may come from any thread at any rate: of each kind the latest one waits, so that nothing piles up behind a slow
model. What each step showed, and every change of state, go to `publish`, which must not block.
"""

import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from pipelines.errors import UsageError, WorldlineError, unforeseen
from pipelines.play.episodes import IMAGINED
from pipelines.play.mode import Mode, Shown
from pipelines.play.protocol import Order, pictures
from pipelines.play.source import Start

START = Start()  # where a dream begins unless somebody says

USUAL = 15  # steps a second: the game's own, as an agent that sees every fourth frame counts them

REST = 2.0  # seconds between two steps that are no measure of the pace

SMOOTHING = 0.2  # share of the last step in the measured pace


class Recording(Protocol):
    """What is being recorded, since a first picture."""

    def add(self, shown: Shown) -> None:
        """Keep one step."""

    def save(self, places: Sequence[int]) -> str:
        """Make the artefact of all that was added; returns its name. Raises WorldlineError.

        `places` are the actions of every step since the mode began, before the first picture too: with them it can be
        played again.
        """


Record = Callable[[Mode, Start, Shown], Recording]
"""begins a recording of a mode that began at a place, from a picture on"""


@dataclass(frozen=True)
class State:
    """What the page must know to draw its controls."""

    mode: str
    actions: tuple[str, ...]
    asks: bool
    lengths: tuple[int, ...] | None  # steps of each episode, where one may seek
    sets: tuple[str, ...] = ()  # kinds of such episodes
    of: str = ""  # the kind that is shown
    paused: bool = False
    speed: int = USUAL
    opening: str = ""  # the mode that is being opened
    recording: bool = False
    ask: bool = False  # save mode
    asking: bool = False  # the episode is over, and it waits for the answer


@dataclass(frozen=True)
class Published:
    """One of: a picture's bytes, a state, a line for people."""

    picture: bytes = b""
    number: int = 0  # of the picture, as its header has it
    state: State | None = None
    note: str = ""


class Session:
    """Steps `mode` and those that `open_mode` gives, until `stop`. It rests while nobody watches (`watched`)."""

    def __init__(
        self,
        mode: Mode,
        open_mode: Callable[[str, Start], Mode],
        record: Record,
        publish: Callable[[Published], None],
        start: Start = START,
    ) -> None:
        """Raises a WorldlineError where the mode cannot begin so."""
        self._mode, self._open, self._record, self._publish = mode, open_mode, record, publish
        self._state, self._asked, self._start = _state_of(mode), start, start
        self._wanted: dict[str, Order] = {}
        self._change = threading.Condition()
        self._stopping, self._viewers = False, 0
        self._pressed: int | None = None
        self._held: int | None = None
        self._shown: Shown | None = None
        self._first = _first(mode, start)
        self._episode, self._number = start.episode or 0, 0
        self._rate, self._due, self._last = 0.0, 0.0, -REST  # steps a second; moments of the next and the last step
        self._recording: Recording | None = None
        self._keeping = False
        self._places: list[int] = []  # of all steps since the mode began
        self._recorded = 0  # of these, those up to the newest that the recording holds
        self._thread = threading.Thread(target=self._run, name="play", daemon=True)

    def start(self) -> None:
        """Show the first step, and go on."""
        self._thread.start()

    def stop(self, patience: float = 5.0) -> None:
        """End the thread, which ends its step first, within `patience` seconds, and keeps what it records."""
        with self._change:
            self._stopping = True
            self._change.notify()
        until = time.monotonic() + patience
        while self._thread.is_alive() and (self._keeping or self._recording or time.monotonic() < until):
            self._thread.join(0.1)

    def order(self, order: Order) -> None:
        """Have this done next; it takes the place of a waiting order of the same kind."""
        with self._change:
            if order.do == "press":
                self._pressed = self._held = order["action"]
            elif order.do == "hold":
                self._held = order["action"]
            else:
                self._wanted[order.do] = order
                self._change.notify()

    def watched(self, viewers: int) -> None:
        """How many watch now; with nobody left no key is held any more."""
        with self._change:
            self._viewers = viewers
            if not viewers:
                self._held = None
            self._change.notify()

    def release(self) -> None:
        """No key is held any more: who played is gone."""
        with self._change:
            self._held = None

    def _run(self) -> None:
        self._try(self._show, self._first)
        self._set()
        while True:
            with self._change:
                while not (self._stopping or self._wanted or self._pause() == 0):
                    self._change.wait(self._pause())
                if self._stopping:
                    break
                wanted, self._wanted = self._wanted, {}
            for each in wanted.values():
                self._try(self._obey, each)
            if self._going() and time.monotonic() >= self._due:
                self._try(self._step)
        if self._recording is not None:
            self._leave()
        self._mode.close()

    def _try(self, do: Callable[..., None], *arguments: Any) -> None:
        """Do it; what fails pauses the game and is said, on the page and here, and the server stays."""
        try:
            do(*arguments)
        except Exception as error:
            line = str(error) if isinstance(error, WorldlineError) else unforeseen(error)
            print(line, file=sys.stderr, flush=True)
            self._publish(Published(note=line))
            self._set(paused=True, opening="")

    def _going(self) -> bool:
        return self._viewers > 0 and not self._state.paused and not self._state.asking

    def _pause(self) -> float | None:
        """Seconds to sleep unless an order comes."""
        return max(0.0, self._due - time.monotonic()) if self._going() else None

    def _set(self, **changes: Any) -> None:
        self._state = replace(self._state, **changes)
        self._publish(Published(state=self._state))

    def _obey(self, order: Order) -> None:
        do = order.do
        if do == "pause":
            self._set(paused=order["on"])
        elif do == "step" and not self._state.asking:
            if not self._state.paused:
                self._set(paused=True)
            self._step()
        elif do == "reset" and not self._state.asking:
            self._reset()
        elif do == "speed":
            self._set(speed=order["value"])
        elif do == "mode":
            self._switch(order["name"], self._asked)
        elif do == "dream" and self._state.lengths is not None:
            self._dream(Start(order["episode"], order["step"], self._state.of))
        elif do == "choose":
            self._choose(order["of"])
        elif do == "seek":
            self._seek(order["episode"], order["step"])
        elif do == "ask":
            self._set(ask=order["on"])
            if order["on"]:
                self._begin()
        elif do == "record":
            self._begin() if order["on"] else self._end(keep=True)
        elif do == "keep" and self._state.asking:
            self._end(order["on"])
            self._set(asking=False)
            self._step()

    def _dream(self, start: Start) -> None:
        if start.of == IMAGINED:
            raise UsageError("A dream begins with real steps, and these are imagined: choose other episodes")
        self._switch("dream", start)

    def _switch(self, name: str, start: Start) -> None:
        self._set(opening=name)
        opened = self._open(name, start)
        try:
            first = _first(opened, start)
        except BaseException:
            opened.close()
            raise
        self._leave()
        self._mode.close()
        self._mode, self._shown, self._pressed, self._held, self._rate = opened, None, None, None, 0.0
        ask = self._state.ask and not hasattr(opened, "seek")
        self._state = replace(_state_of(opened), speed=self._state.speed, ask=ask)
        self._start, self._episode, self._places = start, start.episode or 0, []
        self._set()
        self._show(first)
        if self._state.ask:
            self._begin()

    def _choose(self, of: str) -> None:
        if of not in self._state.sets:
            raise UsageError(f"There are no {of} episodes here: choose among {', '.join(self._state.sets) or 'none'}")
        self._episode, shown = 0, self._mode.choose(of)  # type: ignore[attr-defined]
        self._state = _browsed(self._state, self._mode)
        self._set()
        self._show(shown)

    def _reset(self) -> None:
        if self._state.lengths is not None:
            self._seek(self._episode, 0)
            return
        self._leave()
        self._places = []
        self._show(self._mode.reset())
        if self._state.ask:
            self._begin()

    def _seek(self, episode: int, step: int) -> None:
        lengths = self._state.lengths
        if not lengths:
            return
        self._episode = min(episode, len(lengths) - 1)
        last = max(0, lengths[self._episode] - 1)
        self._show(self._mode.seek(self._episode, min(step, last)))  # type: ignore[attr-defined]

    def _step(self) -> None:
        """One step of the mode, which begins another episode after an ended one; a recorded one stays at its end."""
        now = time.monotonic()
        self._due = max(self._due + 1 / self._state.speed, now)  # what a slow model missed is not caught up
        if now - self._last < REST:
            self._rate += SMOOTHING * (1 / max(now - self._last, 1e-6) - self._rate)
        self._last = now
        if self._shown is not None and self._shown.ended and self._state.lengths is not None:
            self._set(paused=True)
            return
        begins = self._shown is not None and self._shown.ended  # nothing is played: what was pressed waits
        shown = self._mode.step(None if begins else self._action())
        self._places.append(shown.action if isinstance(shown.action, int) else 0)
        self._show(shown)
        if self._state.ask:
            self._begin()

    def _action(self) -> int | None:
        if not self._state.asks:
            return None
        with self._change:
            chosen = self._pressed if self._pressed is not None else self._held
            self._pressed = None
        return chosen if chosen is not None and chosen < len(self._state.actions) else None

    def _show(self, shown: Shown) -> None:
        self._shown, self._number = shown, self._number + 1
        more = {"rate": round(self._rate, 1), "mode": self._state.mode, "episode": self._episode}
        self._publish(Published(pictures(shown, self._number, **more), self._number))
        if self._recording is not None:
            self._add(self._recording, shown)
        if shown.ended and self._state.ask and self._recording is not None:
            self._set(asking=True)

    def _add(self, recording: Recording, shown: Shown) -> None:
        try:
            recording.add(shown)
        except UsageError:  # it is full: what it holds is kept
            self._end(keep=True)
            raise
        self._recorded = len(self._places)

    def _begin(self) -> None:
        if self._state.lengths is not None:
            raise UsageError("These episodes are recorded already: record in another mode")
        if self._recording is None and self._shown is not None:
            self._recording = self._record(self._mode, self._start, self._shown)
            self._recorded = len(self._places)
            self._set(recording=True)

    def _end(self, keep: bool) -> None:
        """Keep the recording, or let it go. One that cannot be kept now goes on: Record tries again."""
        if self._recording is None:
            return
        if keep:
            self._keeping = True
            self._publish(Published(note="Keeping what was recorded ..."))
            try:
                kept = f"Kept as {self._recording.save(self._places[: self._recorded])}"
            except UsageError:  # there is nothing to keep
                self._drop()
                raise
            finally:
                self._keeping = False
            print(kept, flush=True)
            self._publish(Published(note=kept))
        self._drop()

    def _drop(self) -> None:
        self._recording = None
        self._set(recording=False)

    def _leave(self) -> None:
        """End the recording of a mode that ends; what cannot be kept then is lost, and it is said."""
        self._try(self._end, not self._state.ask)
        if self._recording is not None:
            self._drop()
            self._publish(Published(note="The recording could not be kept and is lost: the game went on"))


def _first(mode: Any, start: Start) -> Shown:
    """What a mode begins with; that of episodes where a dream would."""
    return mode.seek(start.episode or 0, start.step) if hasattr(mode, "lengths") else mode.reset()


def _state_of(mode: Mode) -> State:
    found = State(mode.name, mode.actions, mode.asks, None)
    return _browsed(found, mode) if hasattr(mode, "lengths") else found


def _browsed(state: State, mode: Any) -> State:
    """The state with what a mode of episodes has to show now."""
    return replace(state, lengths=tuple(mode.lengths), sets=tuple(mode.sets), of=mode.of)
