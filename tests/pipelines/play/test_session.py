"""The thread that steps a mode: pace, orders, recordings, failures."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from pipelines.errors import UsageError, WorldlineError
from pipelines.play.mode import Mode, Shown
from pipelines.play.protocol import Order, parts
from pipelines.play.session import Published, Session, State
from pipelines.play.source import Start
from tests.fakes import wait_for
from tests.pipelines.play.fakes import LENGTHS, FakeEpisodes, FakeMode, FakeRecording, open_fake


class Audience:
    """All that a session published."""

    def __init__(self) -> None:
        self.heads: list[dict[str, Any]] = []
        self.states: list[State] = []
        self.notes: list[str] = []
        self.log: list[str] = []

    def __call__(self, what: Published) -> None:
        if what.picture:
            self.heads.append(parts(what.picture)[0])
        if what.state is not None:
            self.states.append(what.state)
        if what.note:
            self.notes.append(what.note)

    @property
    def state(self) -> State:
        return self.states[-1]


@contextmanager
def playing(mode: Mode, opened: Callable[..., Mode] = open_fake) -> Iterator[tuple[Session, Audience]]:
    """A session with one viewer, stopped at the end."""
    audience = Audience()
    session = Session(mode, opened, partial(FakeRecording, log=audience.log), audience)
    session.start()
    session.watched(1)
    wait_for(lambda: audience.states)
    try:
        yield session, audience
    finally:
        session.stop()
        assert not any(each.name == "play" for each in threading.enumerate())


class Failing:
    """A recording with room for `most` steps, whose first `failures` saves fail."""

    def __init__(self, most: int, failures: int) -> None:
        self.steps, self._most, self.failures = 0, most, failures
        self.saved: list[int] = []

    def __call__(self, mode: Mode, start: Start, shown: Shown) -> "Failing":
        return self

    def add(self, shown: Shown) -> None:
        if self.steps == self._most:
            raise UsageError("A recording has at most so many steps")
        self.steps += 1

    def save(self, places: Sequence[int]) -> str:
        if self.failures:
            self.failures -= 1
            raise WorldlineError("The disk is full")
        self.saved.append(len(places))
        return "recordings/x"


@contextmanager
def recording_into(made: Failing) -> Iterator[tuple[Session, Audience]]:
    """A session that records, paused; steps are asked for one by one."""
    audience = Audience()
    session = Session(FakeMode("dream"), open_fake, made, audience)
    session.start()
    session.watched(1)
    session.order(Order("pause", {"on": True}))
    wait_for(lambda: audience.states and audience.state.paused)
    for _ in range(2):
        one_step(session, audience)
    session.order(Order("record", {"on": True}))
    wait_for(lambda: audience.state.recording)
    try:
        yield session, audience
    finally:
        session.stop()


def one_step(session: Session, audience: Audience) -> None:
    before = len(audience.heads)
    session.order(Order("step", {}))
    wait_for(lambda: len(audience.heads) > before)


def test_a_full_recording_is_kept_with_the_actions_up_to_its_newest_step() -> None:
    made = Failing(most=3, failures=0)
    with recording_into(made) as (session, audience):
        before = audience.heads[-1]["step"]
        for _ in range(4):
            one_step(session, audience)
        wait_for(lambda: made.saved and not audience.state.recording)
        assert made.saved == [before + 3], "of all steps since the mode began"
        assert any("at most so many" in note for note in audience.notes)


def test_a_recording_that_cannot_be_kept_goes_on_and_is_kept_later() -> None:
    made = Failing(most=100, failures=1)
    with recording_into(made) as (session, audience):
        one_step(session, audience)
        session.order(Order("record", {"on": False}))
        wait_for(lambda: "The disk is full" in audience.notes)
        assert audience.state.recording and not made.saved
        session.order(Order("record", {"on": False}))
        wait_for(lambda: made.saved and not audience.state.recording)


def test_a_mode_that_ends_says_that_its_recording_is_lost() -> None:
    made = Failing(most=100, failures=9)
    with recording_into(made) as (session, audience):
        one_step(session, audience)
        session.order(Order("mode", {"name": "agent"}))
        wait_for(lambda: any("is lost" in note for note in audience.notes) and audience.state.mode == "agent")
        assert not audience.state.recording


def test_keys_that_are_pressed_act_once_and_held_ones_go_on() -> None:
    mode = FakeMode("dream")
    with playing(mode) as (session, audience):
        session.order(Order("pause", {"on": True}))
        wait_for(lambda: audience.state.paused)
        mode.played.clear()

        def step() -> int | None:
            count = len(mode.played)
            session.order(Order("step", {}))
            wait_for(lambda: len(mode.played) > count)
            return mode.played[-1]

        session.order(Order("press", {"action": 2}))
        session.order(Order("hold", {"action": None}))  # let go before the model looked
        assert step() == 2
        assert step() is None
        session.order(Order("press", {"action": 3}))
        assert [step(), step()] == [3, 3]
        session.order(Order("press", {"action": 4}))
        session.order(Order("hold", {"action": 3}))
        assert [step(), step()] == [4, 3], "the newest press first, then what is held still"
        session.order(Order("press", {"action": 900}))
        assert step() is None, "no action of this game"
        session.release()
        assert step() is None


def test_where_nobody_is_asked_no_key_counts() -> None:
    mode = FakeMode("agent")
    with playing(mode) as (session, _):
        session.order(Order("press", {"action": 2}))
        wait_for(lambda: len(mode.played) > 2)
        assert set(mode.played) == {None}


def test_it_rests_while_nobody_watches_and_when_paused() -> None:
    mode = FakeMode("agent", ends=10_000)
    with playing(mode) as (session, audience):
        session.order(Order("speed", {"value": 60}))
        wait_for(lambda: len(mode.played) > 3)
        session.watched(0)
        time.sleep(0.1)
        rested = len(mode.played)
        time.sleep(0.3)
        assert len(mode.played) == rested
        session.watched(1)
        wait_for(lambda: len(mode.played) > rested + 3)
        session.order(Order("pause", {"on": True}))
        wait_for(lambda: audience.state.paused)
        rested = len(mode.played)
        time.sleep(0.2)
        assert len(mode.played) == rested


def test_what_a_slow_model_misses_is_not_caught_up_and_orders_do_not_pile_up() -> None:
    mode = FakeMode("dream", takes=0.15)
    with playing(mode) as (session, audience):
        for value in range(1, 61):
            session.order(Order("speed", {"value": value}))
            session.order(Order("step", {}))
        wait_for(lambda: audience.state.speed == 60 and audience.state.paused)
        time.sleep(0.5)
        assert len(mode.played) <= 4


def test_after_an_end_the_next_episode_begins() -> None:
    with playing(FakeMode("agent", ends=3)) as (session, audience):
        session.order(Order("speed", {"value": 60}))
        wait_for(lambda: len(audience.heads) > 8)
    steps = [head["step"] for head in audience.heads]
    assert steps[:9] == [0, 1, 2, 3, 0, 1, 2, 3, 0]
    assert [head["ended"] for head in audience.heads[:5]] == [False, False, False, True, False]
    assert [head["number"] for head in audience.heads] == list(range(1, len(steps) + 1))


def test_modes_are_switched_and_the_old_one_is_closed() -> None:
    first = FakeMode("agent")
    with playing(first) as (session, audience):
        session.order(Order("speed", {"value": 30}))
        wait_for(lambda: audience.state.speed == 30)
        session.order(Order("mode", {"name": "versus"}))
        wait_for(lambda: audience.state.mode == "versus")
        assert first.closed and audience.state.asks and audience.state.speed == 30 and not audience.state.opening
        assert "versus" in {state.opening for state in audience.states}


def test_a_mode_that_cannot_be_opened_leaves_the_old_one() -> None:
    def fails(name: str, start: Start) -> Mode:
        raise WorldlineError("This checkpoint has no world model: choose another mode")

    first = FakeMode("agent")
    with playing(first, fails) as (session, audience):
        session.order(Order("mode", {"name": "dream"}))
        wait_for(lambda: audience.notes)
        assert audience.notes == ["This checkpoint has no world model: choose another mode"]
        wait_for(lambda: audience.state.paused)
        assert audience.state.mode == "agent" and not first.closed and not audience.state.opening
        session.order(Order("pause", {"on": False}))
        shown = len(audience.heads)
        wait_for(lambda: len(audience.heads) > shown + 2)


def test_a_step_that_fails_is_said_and_pauses(capsys: pytest.CaptureFixture[str]) -> None:
    with playing(FakeMode("dream", fails=True)) as (session, audience):
        session.order(Order("press", {"action": 1}))
        wait_for(lambda: audience.notes)
        wait_for(lambda: audience.state.paused)
        session.order(Order("hold", {"action": None}))
        session.order(Order("pause", {"on": False}))
        shown = len(audience.heads)
        wait_for(lambda: len(audience.heads) > shown + 2)
    assert capsys.readouterr().err == "FIRE cannot be played: choose another action\n"


def test_recording_starts_and_stops_and_ends_with_the_session(capsys: pytest.CaptureFixture[str]) -> None:
    with playing(FakeMode("dream")) as (session, audience):
        wait_for(lambda: len(audience.heads) > 3)
        session.order(Order("record", {"on": True}))
        wait_for(lambda: audience.state.recording)
        shown = len(audience.heads)
        wait_for(lambda: len(audience.heads) > shown + 3)
        session.order(Order("record", {"on": False}))
        wait_for(lambda: len(audience.notes) == 2)
        steps, since_begin = map(int, audience.log[0].split(" of "))
        assert since_begin >= steps + 3, "what was played before it too"
        assert audience.notes == ["Keeping what was recorded ...", f"Kept as recordings/fake-{steps}"]
        session.order(Order("record", {"on": True}))
        wait_for(lambda: audience.state.recording)
        shown = len(audience.heads)
        wait_for(lambda: len(audience.heads) > shown + 1)
    assert len(audience.log) == 2 and capsys.readouterr().out.count("Kept as") == 2


def test_a_recording_of_nothing_is_refused_and_the_game_stays() -> None:
    with playing(FakeMode("dream")) as (session, audience):
        session.order(Order("pause", {"on": True}))
        wait_for(lambda: audience.state.paused)
        session.order(Order("record", {"on": True}))
        wait_for(lambda: audience.state.recording)
        session.order(Order("record", {"on": False}))
        wait_for(lambda: len(audience.notes) == 2)
        assert "play first" in audience.notes[1] and not audience.state.recording


@pytest.mark.parametrize("do", [Order("reset", {}), Order("mode", {"name": "game"})])
def test_what_begins_anew_ends_a_recording(do: Order) -> None:
    with playing(FakeMode("dream")) as (session, audience):
        session.order(Order("record", {"on": True}))
        wait_for(lambda: audience.state.recording)
        shown = len(audience.heads)
        wait_for(lambda: len(audience.heads) > shown + 2)
        session.order(do)
        wait_for(lambda: audience.log)
        wait_for(lambda: not audience.state.recording)


@pytest.mark.parametrize("keep", [True, False])
def test_save_mode_asks_at_the_end_of_every_episode(keep: bool) -> None:
    with playing(FakeMode("dream", ends=4)) as (session, audience):
        session.order(Order("ask", {"on": True}))
        session.order(Order("reset", {}))
        wait_for(lambda: audience.state.asking)
        asked = len(audience.heads)
        time.sleep(0.3)
        assert len(audience.heads) == asked, "it waits for the answer"
        for do in ("step", "reset"):
            session.order(Order(do, {}))
        session.order(Order("keep", {"on": keep}))
        wait_for(lambda: len(audience.heads) > asked and audience.state.recording)
        assert audience.log == (["4 of 4"] if keep else [])
        assert audience.heads[asked]["step"] == 0
        session.order(Order("ask", {"on": False}))
        wait_for(lambda: not audience.state.ask)


def test_episodes_are_sought_within_their_bounds_and_stay_at_their_end() -> None:
    with playing(FakeEpisodes()) as (session, audience):
        assert audience.state.lengths == LENGTHS

        def go(episode: int, step: int) -> tuple[int, int]:
            shown = len(audience.heads)
            session.order(Order("seek", {"episode": episode, "step": step}))
            wait_for(lambda: len(audience.heads) > shown)
            return audience.heads[-1]["episode"], audience.heads[-1]["step"]

        session.order(Order("pause", {"on": True}))
        wait_for(lambda: audience.state.paused)
        assert go(2, 100) == (2, 100)
        assert go(1, 999) == (1, 6)
        assert go(99, 0) == (2, 0)
        assert go(1, 5) == (1, 5)
        session.order(Order("pause", {"on": False}))
        wait_for(lambda: audience.heads[-1]["ended"] and audience.state.paused)
        session.order(Order("reset", {}))
        wait_for(lambda: audience.heads[-1]["step"] == 0)
        assert audience.heads[-1]["episode"] == 1, "its own beginning"
        session.order(Order("record", {"on": True}))
        wait_for(lambda: audience.notes)
        assert "recorded already" in audience.notes[0]


def test_kinds_of_episodes_are_chosen() -> None:
    with playing(FakeEpisodes()) as (session, audience):
        assert (audience.state.sets, audience.state.of) == (("recorded", "evaluated"), "recorded")
        session.order(Order("choose", {"of": "evaluated"}))
        wait_for(lambda: audience.state.of == "evaluated")
        assert audience.state.lengths == (5,)
        session.order(Order("choose", {"of": "dreamt"}))
        wait_for(lambda: audience.notes)
        assert audience.notes == ["There are no dreamt episodes here: choose among recorded, evaluated"]


def test_a_dream_begins_where_an_episode_is_shown_and_the_next_mode_where_it_was_asked() -> None:
    asked: list[tuple[str, Start]] = []

    def opened(name: str, start: Start) -> Mode:
        asked.append((name, start))
        return open_fake(name, start)

    with playing(FakeEpisodes(), opened) as (session, audience):
        session.order(Order("dream", {"episode": 2, "step": 30}))
        wait_for(lambda: audience.state.mode == "dream")
        session.order(Order("mode", {"name": "episodes"}))
        wait_for(lambda: audience.state.mode == "episodes")
    assert asked == [("dream", Start(2, 30, "recorded")), ("episodes", Start())]


def test_a_mode_that_cannot_begin_leaves_the_old_one_and_is_closed() -> None:
    class Fails(FakeMode):
        def reset(self, seed: int | None = None) -> Shown:
            if self.name == "versus":
                raise WorldlineError("No emulator can stand there: begin in the emulator")
            return super().reset(seed)

    opened: list[FakeMode] = []

    def open_one(name: str, start: Start) -> Mode:
        mode = Fails("dream")
        mode.name = name
        opened.append(mode)
        return mode

    first = FakeMode("agent")
    with playing(first, open_one) as (session, audience):
        session.order(Order("mode", {"name": "versus"}))
        wait_for(lambda: audience.notes)
        assert audience.notes == ["No emulator can stand there: begin in the emulator"]
        assert opened[0].closed and not first.closed and audience.state.mode == "agent"
