"""Why one image was judged as it was: in words, and as marks on the frame."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np

from dials_cnn_screen.explain.results import score
from dials_cnn_screen.images.frames import Frame, read_frame
from dials_cnn_screen.images.stills import Still
from dials_cnn_screen.ke2018 import preprocessing_cpu as cpu
from dials_cnn_screen.ke2018.preprocessing import Preprocessing, crop_corner
from dials_cnn_screen.ke2018.sensitivity import FAR, loss_gradient, most_sensitive
from dials_cnn_screen.labels.label import HIT_SPOTS, MAYBE_SPOTS, Label
from dials_cnn_screen.models.model_file import Model
from dials_cnn_screen.outputs.pictures import close_up, whole
from dials_cnn_screen.spots import candidates_cpu as cpu_candidates
from dials_cnn_screen.spots.candidates import Candidates
from dials_cnn_screen.spots.influence import HALF, Influence, influence
from dials_cnn_screen.spots.network import SpotNetwork

# For, and against, a hit; less, or more, sure.
RED, BLUE, GREY = (178, 24, 43), (33, 102, 172), (120, 120, 120)
# Candidates, or groups of pixels, of which there is a close-up; groups with a circle.
_CLOSE_UPS, _GROUPS = 8, 100


@dataclass(frozen=True)
class Mark:
    """A circle about a pixel of the frame.

    share: from -1 to 1, of the mark that counts most, red over 0 and blue below. large:
    whether the circle is. words: what it says.
    """

    slow: int
    fast: int
    share: float
    large: bool
    words: str

    @property
    def colour(self) -> str:
        """Grey at 0, red at 1, blue at -1."""
        end = np.array(RED if self.share > 0 else BLUE)
        mixed = np.array(GREY) + (end - GREY) * abs(self.share) ** 0.5
        return "#" + "".join(f"{round(part):02x}" for part in mixed)


@dataclass(frozen=True)
class Reason:
    """Why one image was judged as it was.

    image: its entry in the results. words: what the marks say, a sentence each. jpeg:
    the frame, in base64; shape: its (slow, fast), pixels. marks: those that count most
    last, so that they lie on top. close_ups: of these, those that count most first,
    JPEG in base64. overlay: a picture to lie on the frame: png, in base64, and slow,
    fast, size, pixels of the frame. numbers: for the JSON.
    """

    image: dict
    words: list[str]
    jpeg: str
    shape: tuple[int, int]
    marks: list[Mark]
    close_ups: list[tuple[Mark, str]]
    numbers: dict
    overlay: dict | None = None


def find_reason(image: dict, still: Still, model: Model) -> Reason:
    """Why a still that was judged (its entry in the results) was judged so."""
    frame = read_frame(still.imageset, still.position)
    if isinstance(model.network, SpotNetwork):
        return _by_candidates(image, frame, model)
    return _by_pixels(image, frame, model)


def _by_candidates(image: dict, frame: Frame, model: Model) -> Reason:
    candidates = cpu_candidates.find_candidates(
        frame.data, frame.mask, frame.beam_centre, model.preprocessing
    )
    of = influence(model.network, candidates, model.calibration.temperature)
    numbers = [
        {
            "slow": int(candidates.slow[i]),
            "fast": int(candidates.fast[i]),
            "p_spot": round(float(of.p_spot[i]), 4),
            "without": round(float(of.without[i]), 4),
            "weight": round(float(of.weight[i]), 4),
        }
        for i in range(len(of.weight))
    ]
    return _reason(
        image,
        frame,
        words=_tell_candidates(image, candidates, of),
        marks=_mark_candidates(candidates, of),
        numbers={"deciding": of.deciding, "candidates": numbers},
    )


def _reason(image: dict, frame: Frame, marks: list[Mark], **others: Any) -> Reason:
    """A reason with its pictures; marks in any order."""
    marks = sorted(marks, key=lambda mark: abs(mark.share))
    return Reason(
        image=image,
        jpeg=whole(frame),
        shape=frame.data.shape,
        marks=marks,
        close_ups=[
            (mark, close_up(frame, mark.slow, mark.fast))
            for mark in marks[::-1][:_CLOSE_UPS]
        ],
        **others,
    )


def _tell_candidates(image: dict, candidates: Candidates, of: Influence) -> list[str]:
    n, n_spots = len(of.weight), int(np.count_nonzero(of.p_spot > 0.5))
    if not n:
        return ["Nothing on the frame stands out from the background."]
    words = [
        f"Of {n} candidates, the strongest of what stands out from the background, "
        f"the model takes {n_spots} for spots; by the rule a Hit has {HIT_SPOTS} or "
        f"more, a Maybe {MAYBE_SPOTS} or more."
    ]

    def place(i: int) -> str:
        return f"({candidates.slow[i]}, {candidates.fast[i]})"

    p, best, worst = score(image), int(of.weight.argmax()), int(of.weight.argmin())
    if np.abs(of.without - p).max() < 0.0005:
        words.append(
            f"None of them changes P(Hit) + P(Maybe), {p:.3f}, by itself; that at "
            f"{place(best)} weighs most."
        )
    else:
        words += [
            f"That at {place(i)} speaks most {side}: without it P(Hit) + P(Maybe) "
            f"would be {of.without[i]:.3f}, not {p:.3f}."
            for i, side, sign in ((best, "for a hit", 1), (worst, "against", -1))
            if sign * of.weight[i] > 0
        ]
    if of.deciding is not None:
        spots = f"{of.deciding} likeliest spots" if of.deciding > 1 else "likeliest one"
        words.append(f"Without the {spots} it would be a Miss.")
    elif p >= HALF:
        words.append("It would be no Miss without any of them: the background counts.")
    return words


def _mark_candidates(candidates: Candidates, of: Influence) -> list[Mark]:
    most = np.abs(of.weight).max(initial=1e-9)
    return [
        Mark(
            slow=int(candidates.slow[i]),
            fast=int(candidates.fast[i]),
            share=float(of.weight[i] / most),
            large=bool(of.p_spot[i] > 0.5),
            words=f"P(spot) {of.p_spot[i]:.2f}, weight {of.weight[i]:+.2f}; without it "
            f"P(Hit) + P(Maybe) {of.without[i]:.3f}",
        )
        for i in range(len(of.weight))
    ]


def _by_pixels(image: dict, frame: Frame, model: Model) -> Reason:
    label = Label[(image["label"] or image["class"]).upper()]
    prepared = cpu.prepare(
        frame.data, frame.mask, frame.beam_centre, model.preprocessing
    )
    deviations = most_sensitive(loss_gradient(model.network, prepared, label))
    overlay = _overlay(deviations, frame, model.preprocessing)
    n = int(np.count_nonzero(deviations))
    return _reason(
        image,
        frame,
        words=_tell_pixels(image, label, n, deviations.size),
        marks=_mark_groups(deviations, overlay, model.preprocessing.binning),
        numbers={"label": label.title, "sensitive": n, "pixels": deviations.size},
        overlay=overlay,
    )


def _tell_pixels(image: dict, label: Label, n: int, of: int) -> list[str]:
    whose = "the expert's" if image["label"] else "the model's own answer"
    words = [f"The loss is for the label {label.title}, {whose}."]
    if not n:
        return [*words, "Its gradient is the same everywhere: no pixel counts more."]
    return [
        *words,
        f"Of {of} pixels of the network's input {n} have a gradient of it more than "
        f"{FAR:g} standard deviations from the mean: there the answer changes most.",
        f"Red: brighter there, and the model would be less sure of {label.title}. "
        "Blue: surer.",
    ]


def _mark_groups(deviations: np.ndarray, overlay: dict, binning: int) -> list[Mark]:
    """Around the groups of pixels that touch each other; the most sensitive of them."""
    from scipy import ndimage

    size = np.abs(deviations)
    groups, n = ndimage.label(size, structure=np.ones((3, 3)))
    places = ndimage.maximum_position(size, groups, range(1, n + 1))
    places = sorted(places, key=lambda place: -size[place])[:_GROUPS]
    return [
        Mark(
            slow=overlay["slow"] + binning * int(slow) + binning // 2,
            fast=overlay["fast"] + binning * int(fast) + binning // 2,
            share=float(deviations[slow, fast] / size.max()),
            large=True,
            words=f"{deviations[slow, fast]:+.1f} standard deviations from the mean",
        )
        for slow, fast in places
    ]


def _overlay(
    deviations: np.ndarray, frame: Frame, preprocessing: Preprocessing
) -> dict:
    """Sensitive pixels, the more so the less transparent, where they are on a frame."""
    from matplotlib import image

    farthest = max(np.abs(deviations).max(), FAR + 1e-9)
    part = np.clip((np.abs(deviations) - FAR) / (farthest - FAR), 0, 1)
    picture = np.zeros((*deviations.shape, 4), dtype=np.uint8)
    picture[..., :3] = np.where(deviations[..., None] > 0, RED, BLUE)
    picture[..., 3] = np.where(deviations != 0, 130 + 125 * part**0.5, 0)
    png = io.BytesIO()
    image.imsave(png, picture, format="png")
    binning, size = preprocessing.binning, preprocessing.size
    centre = tuple(c / binning for c in frame.beam_centre)
    slow, fast = (binning * c for c in crop_corner(centre, size))
    return {
        "png": base64.b64encode(png.getvalue()).decode(),
        "slow": slow,
        "fast": fast,
        "size": binning * size,
    }
