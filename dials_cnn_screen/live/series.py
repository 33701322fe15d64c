"""What messages say: a series begins, an image, a series ends."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Part = bytes | memoryview

# Characters of the name of a series. By hand.
_LONGEST_NAME = 200


class BrokenMessageError(ValueError):
    """A message that is none of the known kinds, or not whole."""


@dataclass(frozen=True, eq=False)
class Header:
    """What is known of the images of a series; None where it is not said.

    Attributes:
        beam_centre: (slow, fast), pixels from the outer corner of the first one.
        trusted_range: The least and the greatest trusted value, ADU.
        mask: bool (slow, fast), True = use.
        n_images: How many there will be.
        has_markers: Whether the two greatest values of an unsigned type stand for
            pixels without a value, as for detectors of Dectris.
    """

    beam_centre: tuple[float, float] | None = None
    trusted_range: tuple[float, float] | None = None
    mask: NDArray[np.bool_] | None = None
    n_images: int | None = None
    has_markers: bool = False


class Start(NamedTuple):
    """A series begins."""

    series: str
    header: Header


class Image(NamedTuple):
    """An image.

    Attributes:
        series: Its name.
        number: From 1.
        read: Gives the pixels, (slow, fast) or (panels, slow, fast); ValueError where
            they are not as the message says.
        n_bytes: Of the message.
        header: Of this image alone; None where that of the series holds.
    """

    series: str
    number: int
    read: Callable[[], NDArray]
    n_bytes: int
    header: Header | None = None


class End(NamedTuple):
    """A series ends."""

    series: str


Message = Start | Image | End


def take_number(value: Any, name: str) -> float:
    """A finite number; BrokenMessageError for anything else."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value):
        raise BrokenMessageError(f"{name} is {str(value)[:40]!r} and no number")
    return float(value)


def take_count(value: Any, name: str) -> int:
    """A whole number from 0 up; BrokenMessageError for anything else."""
    if type(value) is not int or not 0 <= value < 2**31:
        raise BrokenMessageError(f"{name} is {str(value)[:40]!r} and no number")
    return value


def take_pair(value: Any, name: str) -> tuple[float, float] | None:
    """Two finite numbers; None for None; BrokenMessageError for anything else."""
    if value is None:
        return None
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise BrokenMessageError(f"{name} is {str(value)[:40]!r} and not two numbers")
    return take_number(value[0], name), take_number(value[1], name)


def take_beam_centre(content: dict[str, Any]) -> tuple[float, float] | None:
    """The beam centre of DECTRIS's headers, (slow, fast); None where it is not said."""
    names = "beam_center_y", "beam_center_x"
    if not all(name in content for name in names):
        return None
    slow, fast = (take_number(content[name], name) for name in names)
    return slow, fast


@contextlib.contextmanager
def breaking(what: str) -> Iterator[None]:
    """In here a ValueError says that the message is broken, for what is wrong."""
    try:
        yield
    except ValueError as error:
        raise BrokenMessageError(f"{what}: {error}") from None


def take_name(value: Any) -> str:
    """The name of a series, a number or a text in one line."""
    text = str(value) if isinstance(value, int | str) else ""
    if not 0 < len(text) <= _LONGEST_NAME or not text.isprintable():
        raise BrokenMessageError(f"the series is {str(value)[:40]!r} and has no name")
    return text
