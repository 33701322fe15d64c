"""Why one image was judged as it was: in words, and as marks on the frame."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field

import numpy as np

from dials_cnn_screen.candidates import Candidates
from dials_cnn_screen.explain.pixels import FAR, loss_gradient, most_sensitive
from dials_cnn_screen.explain.results import score
from dials_cnn_screen.explain.spots import HALF, Influence, influence
from dials_cnn_screen.frames import Frame, read_frame
from dials_cnn_screen.kernels import cpu, cpu_candidates
from dials_cnn_screen.labels import HIT_SPOTS, MAYBE_SPOTS, Label
from dials_cnn_screen.model_file import Model
from dials_cnn_screen.pictures import whole
from dials_cnn_screen.preprocessing import Preprocessing, crop_corner
from dials_cnn_screen.spot_network import SpotNetwork
from dials_cnn_screen.stills import Still

# For, and against, a hit; less, or more, sure.
RED, BLUE, GREY = (178, 24, 43), (33, 102, 172), (120, 120, 120)


@dataclass(frozen=True)
class Reason:
    """Why one image was judged as it was.

    image: its entry in the results. words: what the marks say, a sentence each. jpeg:
    the frame, in base64; shape: its (slow, fast), pixels. circles: around candidates:
    slow, fast, colour, width of the line, and words. overlay: a picture to lie on the
    frame: png, in base64, and slow, fast, size, pixels of the frame. numbers: for the
    JSON.
    """

    image: dict
    words: list[str]
    jpeg: str
    shape: tuple[int, int]
    circles: list[dict] = field(default_factory=list)
    overlay: dict | None = None
    numbers: dict = field(default_factory=dict)


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
    return Reason(
        image=image,
        words=_tell_candidates(image, of),
        jpeg=whole(frame),
        shape=frame.data.shape,
        circles=_circles(candidates, of),
        numbers={"deciding": of.deciding, "candidates": numbers},
    )


def _tell_candidates(image: dict, of: Influence) -> list[str]:
    n, n_spots = len(of.weight), int(np.count_nonzero(of.p_spot > 0.5))
    if not n:
        return ["Nothing on the frame stands out from the background."]
    words = [
        f"Of the {n} brightest candidates the model takes {n_spots} for spots; by the "
        f"rule a Hit has {HIT_SPOTS} or more, a Maybe {MAYBE_SPOTS} or more."
    ]
    best, worst = int(np.argmax(of.weight)), int(np.argmin(of.weight))
    p = score(image)
    if of.weight[best] > 0:
        words.append(
            f"The reddest circle speaks most for a hit: without it alone P(Hit) + "
            f"P(Maybe) would be {of.without[best]:.3f}, not {p:.3f}."
        )
    if of.weight[worst] < 0:
        words.append(
            f"The bluest speaks most against: without it, {of.without[worst]:.3f}."
        )
    if of.deciding is not None:
        words.append(
            "Without the reddest one the frame would be a Miss."
            if of.deciding == 1
            else f"Without the {of.deciding} reddest the frame would be a Miss."
        )
    elif p >= HALF:
        words.append(
            "It would not be a Miss without all the red ones: what the background is "
            "like counts too."
        )
    return words


def _circles(candidates: Candidates, of: Influence) -> list[dict]:
    """Around each candidate; the weightiest last, so that they lie on top."""
    if not len(of.weight):
        return []
    share = of.weight / max(np.abs(of.weight).max(), 1e-9)
    return [
        {
            "slow": int(candidates.slow[i]),
            "fast": int(candidates.fast[i]),
            "colour": _mix(share[i]),
            "width": 2 + 4 * abs(share[i]),
            "spot": bool(of.p_spot[i] > 0.5),
            "words": f"P(spot) {of.p_spot[i]:.2f}; without it P(Hit) + P(Maybe) "
            f"{of.without[i]:.3f}; weight {of.weight[i]:+.2f}",
        }
        for i in np.argsort(np.abs(share))
    ]


def _mix(share: float) -> str:
    """Grey at 0, red at 1, blue at -1."""
    end = np.array(RED if share > 0 else BLUE)
    mixed = np.array(GREY) + (end - GREY) * min(1.0, abs(share)) ** 0.5
    return "#" + "".join(f"{round(x):02x}" for x in mixed)


def _by_pixels(image: dict, frame: Frame, model: Model) -> Reason:
    label = Label[(image["label"] or image["class"]).upper()]
    prepared = cpu.prepare(
        frame.data, frame.mask, frame.beam_centre, model.preprocessing
    )
    deviations = most_sensitive(loss_gradient(model.network, prepared, label))
    n = int(np.count_nonzero(deviations))
    whose = "the expert's" if image["label"] else "the model's own answer"
    title = label.title
    words = [f"Loss for the label {title}, {whose}."]
    words.append(
        f"At {n} of {deviations.size} pixels of the network's input "
        f"({100 * n / deviations.size:.2g}%) its gradient is more than {FAR:g} "
        "standard deviations from the mean: there the answer changes most."
        if n
        else "Its gradient is the same everywhere: no pixel counts more than another."
    )
    if n:
        words.append(
            f"Red: brighter there, and the model would be less sure of {title}. Blue: "
            "surer."
        )
    numbers = {"label": title, "sensitive": n, "pixels": deviations.size}
    return Reason(
        image=image,
        words=words,
        jpeg=whole(frame),
        shape=frame.data.shape,
        overlay=_overlay(deviations, frame, model.preprocessing),
        numbers=numbers,
    )


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
