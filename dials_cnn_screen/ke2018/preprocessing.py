"""Frame to network input: binning, cropping about q = 0, contrast (section 2.2).

The reference, in numpy; preprocessing_cpu.py is the same made fast. Masked pixels take
no part in any sum and are 0 in the result, so that gaps between tiles do not look like
features; without masked pixels the equations are the paper's.

Ke, T.-W. et al. (2018), J. Synchrotron Rad. 25, 655.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

CONTRASTS = ("lcn", "linear", "none")
# Edge of the neighbourhood of equations 8 and 9, bins. The paper does not give it: by
# hand.
LCN_WINDOW = 5
# A local deviation below this fraction of the frame's own, or a frame's below this
# fraction of its mean, is a rounding error; dividing by it would amplify that to noise.
# By hand, over float32's 1e-7.
FLAT = 1e-5
# M of Fig. 6: the contrast that dials.image_viewer starts with.
LINEAR_CONTRAST = 0.4


@dataclass(frozen=True)
class Preprocessing:
    """How a frame is prepared; stored with a model so that both always agree.

    The defaults are those of section 2.2.

    Attributes:
        binning: Edge of a bin, pixels.
        size: Edge of the square crop, bins.
        contrast: lcn, linear or none.

    Raises:
        ValueError: Another contrast, binning or size not a positive integer, or a size
            below LCN_WINDOW.
    """

    binning: int = 2
    size: int = 720
    contrast: str = "lcn"

    def __post_init__(self) -> None:
        if self.contrast not in CONTRASTS:
            raise ValueError(
                f"contrast '{self.contrast}' is not one of {', '.join(CONTRASTS)}"
            )
        for name in ("binning", "size"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a positive whole number, not {value}")
        if self.size < LCN_WINDOW:
            raise ValueError(f"size must be at least {LCN_WINDOW}, not {self.size}")

    def as_dict(self) -> dict[str, Any]:
        """The fields, as JSON values."""
        return asdict(self)


def prepare(
    data: NDArray,
    mask: NDArray[np.bool_],
    beam_centre: tuple[float, float],
    preprocessing: Preprocessing,
    shift: tuple[int, int] = (0, 0),
) -> NDArray[np.float32]:
    """Bin a frame, crop it about q = 0 and adjust the contrast (section 2.2).

    Args:
        data: (slow, fast) numbers, ADU.
        mask: bool (slow, fast), True = use.
        beam_centre: (slow, fast), pixels, as in Frame.
        preprocessing: Binning, size of the crop and contrast.
        shift: (slow, fast), bins, moves the crop away from q = 0 for training.

    Returns:
        float32 (size, size), 0 where masked or outside the frame.
    """
    binned, used = bin_pixels(data, mask, preprocessing.binning)
    # (slow // binning, fast // binning) each
    slow, fast = (
        c / preprocessing.binning + s for c, s in zip(beam_centre, shift, strict=True)
    )
    binned, used = crop(binned, used, (slow, fast), preprocessing.size)
    # (size, size) each
    return adjust_contrast(binned, used, preprocessing.contrast)


def adjust_contrast(
    image: NDArray, mask: NDArray[np.bool_], contrast: str
) -> NDArray[np.float32]:
    """Apply one of CONTRASTS.

    Args:
        image: (slow, fast) numbers, ADU.
        mask: bool (slow, fast), True = use.
        contrast: lcn, linear or none.

    Returns:
        float32 (slow, fast), 0 where masked.
    """
    if contrast == "lcn":
        return local_contrast_normalise(image, mask)
    if contrast == "linear":
        return linear_contrast(image, mask)
    return np.where(mask, image, 0).astype(np.float32)


def bin_pixels(
    data: NDArray, mask: NDArray[np.bool_], binning: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Mean of the used pixels of each binning x binning block.

    Rows and columns that are left over at the far edges are left out.

    Args:
        data: (slow, fast) numbers, ADU.
        mask: bool (slow, fast), True = use.
        binning: Edge of a block, pixels.

    Returns:
        The means, float64 (slow // binning, fast // binning), ADU, 0 in blocks without
        a used pixel; and which blocks have one, bool of the same shape.
    """
    rows, columns = (n // binning for n in data.shape)

    def blocks(array: NDArray) -> NDArray:
        cut = array[: rows * binning, : columns * binning]
        return cut.reshape(rows, binning, columns, binning)

    count = blocks(mask).sum(axis=(1, 3))  # (rows, columns)
    total = blocks(np.where(mask, data, 0).astype(np.float64)).sum(axis=(1, 3))
    return total / np.maximum(count, 1), count > 0


def crop(
    image: NDArray, mask: NDArray[np.bool_], centre: tuple[float, float], size: int
) -> tuple[NDArray, NDArray[np.bool_]]:
    """Cut a square out of an image.

    Args:
        image: (slow, fast).
        mask: bool (slow, fast), True = use.
        centre: (slow, fast), from the outer corner of the first element.
        size: Edge of the square.

    Returns:
        Image and mask, (size, size) each; 0 and False outside the image.
    """
    out = np.zeros((size, size), dtype=image.dtype)
    used = np.zeros((size, size), dtype=bool)
    source, target = [], []
    for start, length in zip(crop_corner(centre, size), image.shape, strict=True):
        low, high = max(start, 0), min(start + size, length)
        source.append(slice(low, max(high, low)))
        target.append(slice(low - start, max(high, low) - start))
    out[tuple(target)] = image[tuple(source)]
    used[tuple(target)] = mask[tuple(source)]
    return out, used


def crop_corner(centre: tuple[float, float], size: int) -> tuple[int, int]:
    """First row and column of a crop about centre; may lie outside of the image."""
    slow, fast = (int(np.floor(c + 0.5)) - size // 2 for c in centre)
    return slow, fast


def local_contrast_normalise(
    image: NDArray, mask: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """LCN: global, then local 5 x 5 normalisation (equations 6-9).

    P = (image - mean) / deviation of all used pixels, then
    (P - local mean) / local deviation of the used pixels of the neighbourhood. Edges
    are reflected about the outermost pixel.

    Args:
        image: (slow, fast) numbers, ADU, at least 3 x 3.
        mask: bool (slow, fast), True = use.

    Returns:
        float32 (slow, fast), 0 where masked and where the neighbourhood is flat.
    """
    if not mask.any():
        return np.zeros(image.shape, dtype=np.float32)
    used = image[mask].astype(np.float64)  # (n,)
    deviation = used.std()
    if deviation <= FLAT * abs(used.mean()):
        return np.zeros(image.shape, dtype=np.float32)
    p = np.where(mask, (image - used.mean()) / deviation, 0.0)  # equation 6

    n = np.maximum(_box_sum(mask.astype(np.float64)), 1)
    mean = _box_sum(p) / n  # equation 8
    variance = _box_sum(p * p) / n - mean * mean  # equation 9
    flat = variance <= FLAT**2
    result = (p - mean) / np.sqrt(np.where(flat, 1.0, variance))  # equation 7
    return np.where(mask & ~flat, result, 0.0).astype(np.float32)


def linear_contrast(image: NDArray, mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The viewer's contrast, D = min(1, M P / P90) with M = 0.4 (Fig. 6).

    Args:
        image: (slow, fast) numbers P, ADU.
        mask: bool (slow, fast), True = use; P90 is the 90th percentile of these.

    Returns:
        float32 (slow, fast), 0 where masked, and all 0 where P90 is not over 0.
    """
    p90 = np.percentile(image[mask], 90) if mask.any() else 0.0
    if p90 <= 0:
        return np.zeros(image.shape, dtype=np.float32)
    shade = np.minimum(1.0, LINEAR_CONTRAST * image / p90)
    return np.where(mask, shade, 0.0).astype(np.float32)


def _box_sum(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum over the LCN_WINDOW x LCN_WINDOW pixels around each, edges reflected."""
    reach = LCN_WINDOW // 2
    rows, columns = image.shape
    padded = np.pad(image, reach, mode="reflect")  # (rows + 4, columns + 4)
    shifts = range(LCN_WINDOW)
    down = np.sum([padded[i : i + rows] for i in shifts], axis=0)  # (rows, columns + 4)
    return np.sum([down[:, j : j + columns] for j in shifts], axis=0)  # (rows, columns)
