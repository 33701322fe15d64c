"""The spots of a model as a reflection table, as dials.find_spots makes one.

The model says where spots are; what is a spot's pixel is found here, and centroids,
intensities and shoeboxes of those pixels are DIALS's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from dials.algorithms.shoebox import MaskCode
from dials.algorithms.spot_finding.per_image_analysis import (
    estimate_resolution_limit,
    ice_rings_selection,
)
from dials.array_family import flex
from dials.model.data import PixelList, PixelListLabeller
from dxtbx import flumpy
from dxtbx.imageset import ImageSequence, ImageSet
from dxtbx.model import Experiment, ExperimentList
from numpy.typing import NDArray

from dials_cnn_screen.images.panels import find_panel_pixels
from dials_cnn_screen.images.stills import Still, list_stills
from dials_cnn_screen.util.files import replacing

# A pixel of a spot is over the mean of the background about it by so many standard
# deviations: sigma_strong of dials.find_spots.
SIGMA_STRONG = 3.0
# Pixels to each side of a spot's maximum where its other pixels may be, those that are
# not background, and those that background is measured in. By hand: spots of stills
# are 2 to 8 pixels across.
SPOT, CORE, AROUND = 5, 3, 10
# Background is not measured in fewer pixels than this. By hand.
LEAST_BACKGROUND = 20
# Fewer spots tell no resolution: as in dials.spot_counts_per_image.
LEAST_SPOTS = 11


def extract_spots(
    imageset: ImageSet, index: int, frame: int, spots: NDArray[np.int64]
) -> flex.reflection_table:
    """The spots of one still, extracted by DIALS from the pixels about them.

    Pixels are corrected for pedestal and gain, as dials.find_spots does.

    Args:
        imageset: Opened with its format.
        index: The image's position in it.
        frame: The number of the image that becomes z, from 0.
        spots: int64 (n, 2), (slow, fast) indices on the frame, as in Prediction.

    Returns:
        A row for each spot, fewer where spots touch each other; without id.

    Raises:
        Exception: Whatever dxtbx raises when it cannot read the image.
    """
    detector, beam = imageset.get_detector(index), imageset.get_beam(index)
    panels, places = find_panel_pixels(detector, beam, spots)
    images, masks = imageset.get_corrected_data(index), imageset.get_mask(index)
    shoeboxes = flex.shoebox()
    for panel in np.unique(panels).tolist():
        strong = find_spot_pixels(
            flumpy.to_numpy(images[panel]),
            flumpy.to_numpy(masks[panel]),
            places[panels == panel],
        )
        pixels = PixelListLabeller()
        pixels.add(PixelList(frame, images[panel], flumpy.from_numpy(strong)))
        if pixels.num_pixels():
            shoeboxes.extend(_join_pixels(pixels, panel))
    observed = flex.observation(
        shoeboxes.panels(), shoeboxes.centroid_valid(), shoeboxes.summed_intensity()
    )
    table = flex.reflection_table(observed, shoeboxes)
    good = MaskCode.Foreground | MaskCode.Valid
    table["n_signal"] = shoeboxes.count_mask_values(good)
    table.set_flags(flex.bool(len(table), True), table.flags.strong)
    return table.select(flumpy.from_numpy(_has_spot(table, panels, places)))


def _join_pixels(pixels: PixelListLabeller, panel: int) -> flex.shoebox:
    """The shoeboxes of pixels of a panel that touch each other, of any number."""
    creator = flex.PixelListShoeboxCreator(
        pixels,
        panel,
        0,  # z range: as it is
        True,  # each image by itself
        1,  # least number of pixels
        pixels.num_pixels() + 1,  # greatest, which DIALS wants to be over 1
        False,  # hot pixels are not listed
    )
    return creator.result()


def find_spot_pixels(
    image: NDArray, mask: NDArray[np.bool_], spots: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """The pixels of spots on one panel.

    A pixel near a spot's maximum is one if it is over the mean of the background by
    SIGMA_STRONG of its standard deviations. Both are measured about the spot, not
    derived from counts: so the gain need not be known. The maximum is always one.

    Args:
        image: (slow, fast) numbers.
        mask: bool (slow, fast), True = use.
        spots: int64 (n, 2), (slow, fast) of the maxima.

    Returns:
        bool (slow, fast).
    """
    background = mask.copy()
    for spot in spots:
        background[_window(spot, CORE)] = False
    strong = np.zeros(image.shape, dtype=bool)
    for spot in spots:
        around = _window(spot, AROUND)
        level = image[around][background[around]]  # (m,)
        if level.size >= LEAST_BACKGROUND:
            near = _window(spot, SPOT)
            limit = level.mean() + SIGMA_STRONG * level.std()
            strong[near] |= mask[near] & (image[near] > limit)
        strong[tuple(spot)] = True
    return strong & mask


def _window(spot: NDArray[np.int64], reach: int) -> tuple[slice, slice]:
    """The pixels up to so many from a spot along both axes."""
    slow, fast = (slice(max(0, x - reach), x + reach + 1) for x in spot.tolist())
    return slow, fast


def _has_spot(
    table: flex.reflection_table,
    panels: NDArray[np.int64],
    places: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Which rows have the maximum of a spot within their box; others are noise.

    Args:
        table: With n rows.
        panels: int64 (m,), of the maxima.
        places: int64 (m, 2), (slow, fast) of the maxima.

    Returns:
        bool (n,).
    """
    x0, x1, y0, y1, _, _ = (flumpy.to_numpy(p) for p in table["bbox"].parts())
    slow, fast = places.T[:, None]  # (1, m) each
    inside = (
        (flumpy.to_numpy(table["panel"])[:, None] == panels)
        & (x0[:, None] <= fast)
        & (fast < x1[:, None])
        & (y0[:, None] <= slow)
        & (slow < y1[:, None])
    )  # (n, m)
    return inside.any(axis=1)


def frame_number(still: Still) -> int:
    """The number of a still that is z in a reflection table, from 0, as DIALS has it.

    In a sequence it goes by the scan, else by the place in the file.
    """
    imageset = still.imageset
    if isinstance(imageset, ImageSequence):
        return imageset.get_array_range()[0] + still.position
    return still.name.number - 1


def estimate_d_min(
    table: flex.reflection_table, imageset: ImageSet, index: int
) -> float | None:
    """The resolution of a still by its spots, as dials.find_spots estimates it.

    Args:
        table: Of extract_spots.
        imageset: With the models of the image.
        index: The image's position in it.

    Returns:
        Angstrom; None where there are too few spots, ice left out, to tell.
    """
    experiments = ExperimentList(
        [
            Experiment(
                beam=imageset.get_beam(index), detector=imageset.get_detector(index)
            )
        ]
    )
    spots = table.copy()
    spots["id"] = flex.int(len(spots), 0)
    spots.centroid_px_to_mm(experiments)
    spots.map_centroids_to_reciprocal_space(experiments)
    # The logarithm of I / sigma(I) is fitted.
    spots = spots.select(spots["intensity.sum.value"] > 0)
    if len(spots) < LEAST_SPOTS:
        return None
    ice = ice_rings_selection(spots)
    if len(spots) - ice.count(True) < LEAST_SPOTS:
        return None
    try:
        d_min = estimate_resolution_limit(spots, ice_sel=ice)
    except (ArithmeticError, IndexError, RuntimeError, ValueError):
        return None  # its lines can't be fitted to every set of spots
    return float(d_min) if d_min > 0 else None


def write_strong(
    path: str | Path,
    tables: Mapping[Any, flex.reflection_table],
    hits: ExperimentList,
) -> int:
    """Write spots as a reflection table that goes with the experiments of the hits.

    The id of a spot is the place of its image in the list, that of the first experiment
    where several are of one image, and identifiers are those of the list.

    Args:
        path: Such as strong.refl.
        tables: Those of extract_spots by ImageName; images without any are left out.
        hits: As written to hits.expt.

    Returns:
        The number of spots.
    """
    strong = flex.reflection_table()
    for still in list_stills(hits):
        if still.name in tables:
            table = tables[still.name]
            table["id"] = flex.int(len(table), still.experiments[0])
            strong.extend(table)
    identifiers = strong.experiment_identifiers()
    for number, experiment in enumerate(hits):
        if experiment.identifier:
            identifiers[number] = experiment.identifier
    if len(strong):
        strong.is_overloaded(hits)  # sets the flags
    with replacing(path) as unfinished:
        strong.as_file(unfinished)
    return len(strong)
