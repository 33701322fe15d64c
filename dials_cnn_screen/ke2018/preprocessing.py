"""Frame to network input: binning, cropping about q = 0, contrast. The reference.

Plain numpy, written to be read; kernels/ has the same arithmetic made fast. Masked
pixels take no part in any sum and are 0 in the result, so that gaps between tiles do
not look like features; without masked pixels the equations are the paper's own.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

CONTRASTS = ("lcn", "linear", "none")
LCN_WINDOW = 5
# A local deviation below this part of the frame's own, or a frame's below this part of
# its mean, is a rounding error; dividing by it would make noise of nothing.
FLAT = 1e-5
# M of Fig. 6: the contrast that dials.image_viewer starts with.
LINEAR_CONTRAST = 0.4


@dataclass(frozen=True)
class Preprocessing:
    """How a frame is prepared; stored with a model so that both always agree.

    binning: detector pixels along the edge of a bin. size: edge of the square crop,
    bins. contrast: lcn, linear or none. Raises ValueError for other values.
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

    def as_dict(self) -> dict:
        return asdict(self)


def prepare(
    data: np.ndarray,
    mask: np.ndarray,
    beam_centre: tuple[float, float],
    preprocessing: Preprocessing,
    shift: tuple[int, int] = (0, 0),
) -> np.ndarray:
    """Bin, crop and contrast one frame (section 2.2).

    data: (slow, fast) numbers, ADU. mask: (slow, fast) bool, True = use. beam_centre:
    (slow, fast) pixels. shift: (slow, fast) bins, moves the crop away from q = 0 for
    training. Returns float32 (size, size).
    """
    binned, used = bin_pixels(data, mask, preprocessing.binning)
    centre = tuple(
        c / preprocessing.binning + s for c, s in zip(beam_centre, shift, strict=True)
    )
    binned, used = crop(binned, used, centre, preprocessing.size)
    return adjust_contrast(binned, used, preprocessing.contrast)


def adjust_contrast(image: np.ndarray, mask: np.ndarray, contrast: str) -> np.ndarray:
    """Apply the contrast named; image (slow, fast), mask True = use; float32."""
    if contrast == "lcn":
        return local_contrast_normalise(image, mask)
    if contrast == "linear":
        return linear_contrast(image, mask)
    return np.where(mask, image, 0).astype(np.float32)


def bin_pixels(
    data: np.ndarray, mask: np.ndarray, binning: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the used pixels of each binning x binning block.

    Rows and columns over at the far edges are left out. Returns the means, float64
    (slow // binning, fast // binning), and which blocks have a used pixel.
    """
    rows, columns = (n // binning for n in data.shape)

    def blocks(array: np.ndarray) -> np.ndarray:
        cut = array[: rows * binning, : columns * binning]
        return cut.reshape(rows, binning, columns, binning)

    count = blocks(mask).sum(axis=(1, 3))
    total = blocks(np.where(mask, data, 0).astype(np.float64)).sum(axis=(1, 3))
    return total / np.maximum(count, 1), count > 0


def crop(
    image: np.ndarray, mask: np.ndarray, centre: tuple[float, float], size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Square of edge size about centre (slow, fast); masked zeros where frame ends."""
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
    """First row and column of a crop about centre; may lie outside of the frame."""
    return tuple(int(np.floor(c + 0.5)) - size // 2 for c in centre)


def local_contrast_normalise(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """LCN: global, then local 5 x 5 normalisation (equations 6-9); float32.

    Edges are reflected about the outermost pixel. Where the neighbourhood is flat the
    result is 0.
    """
    if not mask.any():
        return np.zeros(image.shape, dtype=np.float32)
    used = image[mask].astype(np.float64)
    deviation = used.std()
    if deviation <= FLAT * abs(used.mean()):
        return np.zeros(image.shape, dtype=np.float32)
    p = np.where(mask, (image - used.mean()) / deviation, 0.0)

    n = np.maximum(_box_sum(mask.astype(np.float64)), 1)
    mean = _box_sum(p) / n
    variance = _box_sum(p * p) / n - mean * mean
    flat = variance <= FLAT**2
    result = (p - mean) / np.sqrt(np.where(flat, 1.0, variance))
    return np.where(mask & ~flat, result, 0.0).astype(np.float32)


def linear_contrast(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The viewer's contrast, D = min(1, M P / P90) with M = 0.4 (Fig. 6); float32.

    P90 is the 90th percentile of the used pixels. A frame whose P90 is not positive
    comes out as 0.
    """
    p90 = np.percentile(image[mask], 90) if mask.any() else 0.0
    if p90 <= 0:
        return np.zeros(image.shape, dtype=np.float32)
    shade = np.minimum(1.0, LINEAR_CONTRAST * image / p90)
    return np.where(mask, shade, 0.0).astype(np.float32)


def _box_sum(image: np.ndarray) -> np.ndarray:
    reach = LCN_WINDOW // 2
    rows, columns = image.shape
    padded = np.pad(image, reach, mode="reflect")
    down = sum(padded[i : i + rows] for i in range(LCN_WINDOW))
    return sum(down[:, j : j + columns] for j in range(LCN_WINDOW))
