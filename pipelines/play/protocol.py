"""What the page and the server say to each other.

A page sends orders, JSON in text frames of at most LONGEST bytes: `{"do": "press", "action": 2}`. The server sends
state and notes as JSON (`{"is": "state", ...}`), and what a step showed as bytes: four that count the header's
(little-endian), the header in JSON, then the pixels of every picture, row by row, in the header's order.
Letters: H, W pixels; A actions.
"""

import json
import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.play.mode import Shown

LONGEST = 512  # bytes of an order

SPEEDS = (1, 60)  # steps a second

MOST = 2**31  # episodes, steps, numbers of pictures: a page's numbers are bounded before anybody counts with them


class BadOrder(ValueError):  # noqa: N818
    """An order that no page of ours sends; the message says what is wrong with it."""


@dataclass(frozen=True)
class Order:
    """What a page wants: `do`, and what the fields of that word are."""

    do: str
    fields: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.fields[name]


def _whole(least: int, most: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and least <= value <= most


def _switch(value: Any) -> bool:
    return type(value) is bool


def _name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 40 and value.isprintable()


_ACTION = _whole(0, 1023)

ORDERS: Mapping[str, Mapping[str, Callable[[Any], bool]]] = {
    "press": {"action": _ACTION},  # a key went down: acts once, however short it was
    "hold": {"action": lambda value: value is None or _ACTION(value)},  # what is held from now on
    "pause": {"on": _switch},
    "step": {},
    "reset": {},
    "speed": {"value": _whole(*SPEEDS)},
    "mode": {"name": _name},
    "choose": {"of": _name},  # another kind of episodes
    "dream": {"episode": _whole(0, MOST), "step": _whole(0, MOST)},  # begin a dream there
    "seek": {"episode": _whole(0, MOST), "step": _whole(0, MOST)},
    "record": {"on": _switch},
    "ask": {"on": _switch},  # at the end of every episode, whether to keep it
    "keep": {"on": _switch},  # the answer
    "take": {},  # who sends it plays from now on
    "seen": {"number": _whole(0, MOST)},  # a picture is drawn: there is room for another
}


def read(text: str) -> Order:
    """The order in a text frame. Raises BadOrder for anything else: unknown words, missing, extra or wild fields."""
    if len(text) > LONGEST:
        raise BadOrder(f"an order has at most {LONGEST} characters")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadOrder("an order is JSON") from error
    if not isinstance(found, dict) or not isinstance(found.get("do"), str) or found["do"] not in ORDERS:
        raise BadOrder(f"an order is an object whose 'do' is one of {', '.join(ORDERS)}")
    do = found.pop("do")
    rules = ORDERS[do]
    if found.keys() != rules.keys() or not all(allowed(found[name]) for name, allowed in rules.items()):
        raise BadOrder(f"'{do}' has exactly the fields {', '.join(rules) or 'none'}, each within its range")
    return Order(do, found)


def pictures(shown: Shown, number: int, **more: Any) -> bytes:
    """What one step showed, as the page reads it. `number` counts messages; `more` are further fields of the header.

    Raises ValueError for a picture that is not (H, W) or (H, W, 3) uint8.
    """
    layout, pixels = [], []
    for title, picture in shown.pictures.items():
        if picture.dtype != np.uint8 or picture.ndim not in (2, 3) or picture.shape[2:] not in ((), (3,)):
            raise ValueError(f"picture '{title}' is {picture.dtype} {picture.shape}: (H, W) or (H, W, 3) uint8 wanted")
        height, width, channels = (*picture.shape, 1)[:3]
        layout.append({"title": title, "height": height, "width": width, "channels": channels})
        pixels.append(picture.tobytes())
    values = None if shown.values is None else [_finite(value) for value in shown.values]
    header = {
        "number": number,
        "step": int(shown.step),
        "action": int(shown.action) if isinstance(shown.action, int | np.integer) else None,  # numbers stand in facts
        "reward": _finite(shown.reward),
        "total": _finite(shown.total),
        "ended": bool(shown.ended),
        "values": values,
        "facts": dict(shown.facts),
        "pictures": layout,
        **more,
    }
    head = json.dumps(header, allow_nan=False).encode()
    return b"".join([struct.pack("<I", len(head)), head, *pixels])


def parts(message: bytes) -> tuple[dict[str, Any], list[np.ndarray]]:
    """The header and the pictures of a message that `pictures` wrote, as the page takes it apart."""
    (length,) = struct.unpack_from("<I", message)
    header = json.loads(message[4 : 4 + length])
    found, at = [], 4 + length
    for each in header["pictures"]:
        shape = (each["height"], each["width"], each["channels"])
        picture = np.frombuffer(message, np.uint8, math.prod(shape), at)
        found.append(picture.reshape(shape if shape[2] > 1 else shape[:2]))
        at += math.prod(shape)
    return header, found


def _finite(value: float) -> float | None:
    """A number that JSON has."""
    return float(value) if math.isfinite(value) else None
