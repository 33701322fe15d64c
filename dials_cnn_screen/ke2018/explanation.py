"""Why the paper's network classified a frame as it did: the most sensitive pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dials_cnn_screen.architecture import Explanation, Mark, Overlay
from dials_cnn_screen.images.frame import Frame
from dials_cnn_screen.ke2018.network import Ke2018
from dials_cnn_screen.ke2018.preprocessing import Preprocessing, crop_corner
from dials_cnn_screen.ke2018.preprocessing_cpu import prepare
from dials_cnn_screen.ke2018.sensitivity import (
    MIN_DEVIATION,
    loss_gradient,
    most_sensitive,
)
from dials_cnn_screen.labels.label import Label

# Groups of pixels that are marked, at most.
_GROUPS = 100


def explain_pixels(
    network: Ke2018,
    preprocessing: Preprocessing,
    frame: Frame,
    predicted: Label,
    labelled: Label | None,
) -> Explanation:
    """Marks on groups of sensitive pixels, red where brighter makes less sure.

    Args:
        network: Stays as it is.
        preprocessing: Of its input.
        frame: Any frame.
        predicted: The class of which the loss is taken if there is no label.
        labelled: The expert's label; None if there is none.
    """
    label = predicted if labelled is None else labelled
    image = prepare(frame.data, frame.mask, frame.beam_centre, preprocessing)
    deviations = most_sensitive(loss_gradient(network, image, label))
    binning = preprocessing.binning
    slow_centre, fast_centre = frame.beam_centre
    corner = crop_corner(
        (slow_centre / binning, fast_centre / binning), preprocessing.size
    )
    overlay = Overlay(
        values=deviations,
        threshold=MIN_DEVIATION,
        slow=binning * corner[0],
        fast=binning * corner[1],
        binning=binning,
    )
    n = int(np.count_nonzero(deviations))
    whose = "the predicted class" if labelled is None else "the expert's label"
    return Explanation(
        sentences=_describe(label, whose, n, deviations.size),
        marks=_mark_groups(deviations, overlay),
        numbers={"label": label.title, "sensitive": n, "pixels": deviations.size},
        overlay=overlay,
    )


def _describe(label: Label, whose: str, n: int, of: int) -> list[str]:
    """The label, and that n of so many pixels are sensitive, in sentences."""
    sentences = [f"The loss is that of {label.title}, {whose}."]
    if not n:
        return [*sentences, "Its gradient is the same everywhere: no pixel stands out."]
    return [
        *sentences,
        f"{n} of the {of} pixels of the network's input have a gradient more than "
        f"{MIN_DEVIATION:g} standard deviations from the mean: there the output "
        "changes most.",
        f"Red: if it were brighter there, the model would be less sure of "
        f"{label.title}. Blue: surer. Groups of these pixels are marked, at most "
        f"{_GROUPS}.",
    ]


def _mark_groups(deviations: NDArray[np.float64], overlay: Overlay) -> list[Mark]:
    """Around the groups of pixels that touch each other; the most sensitive of them."""
    from scipy import ndimage

    size = np.abs(deviations)
    groups, n = ndimage.label(size, structure=np.ones((3, 3)))
    places = ndimage.maximum_position(size, groups, range(1, n + 1))
    places = sorted(places, key=lambda place: -size[place])[:_GROUPS]
    binning = overlay.binning
    return [
        Mark(
            slow=overlay.slow + binning * int(slow) + binning // 2,
            fast=overlay.fast + binning * int(fast) + binning // 2,
            share=float(deviations[slow, fast] / size.max()),
            large=True,
            text=f"{deviations[slow, fast]:+.1f} standard deviations from the mean",
        )
        for slow, fast in places
    ]
