"""Preprocessing on one CPU core: the arithmetic of preprocessing.prepare, compiled.

Binning and cropping are one pass over the pixels that are kept. LCN is a second over
the crop; neighbouring pixels share the sums down the columns of their neighbourhoods.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dials_cnn_screen.ke2018 import preprocessing as reference
from dials_cnn_screen.ke2018.preprocessing import FLAT, LCN_WINDOW, Preprocessing
from dials_cnn_screen.util.compiled import njit

_REACH = LCN_WINDOW // 2


def prepare(
    data: NDArray,
    mask: NDArray[np.bool_],
    beam_centre: tuple[float, float],
    preprocessing: Preprocessing,
) -> NDArray[np.float32]:
    """Bin a frame, crop it about q = 0 and adjust the contrast.

    Args:
        data: (slow, fast) numbers, ADU.
        mask: bool (slow, fast), True = use.
        beam_centre: (slow, fast), pixels, as in Frame.
        preprocessing: Binning, size of the crop and contrast.

    Returns:
        float32 (size, size), within 1e-4 of preprocessing.prepare; less near, as bins
        are float32, where the frame's standard deviation is below 1e-3 of its mean.
    """
    binning, size = preprocessing.binning, preprocessing.size
    slow, fast = (c / binning for c in beam_centre)
    row, column = reference.crop_corner((slow, fast), size)
    image = np.zeros((size, size), dtype=np.float32)
    used = np.zeros((size, size), dtype=np.bool_)
    if binning == 2:
        _bin_by_two(data, mask, row, column, image, used)
    else:
        _bin_by(data, mask, row, column, binning, image, used)
    if preprocessing.contrast == "lcn":
        return _normalise(image, used)
    return reference.adjust_contrast(image, used, preprocessing.contrast)


@njit()
def _overlap(start, size, length):
    """Along an axis, the first element of a crop on the frame, and the end of these.

    Args:
        start: Where the crop starts, in bins of the frame; may be below 0.
        size: Edge of the crop, bins.
        length: Of the frame, bins.
    """
    return max(0, -start), max(0, min(size, length - start))


@njit()
def _bin_by_two(data, mask, row, column, image, used):
    """Means of the used pixels of 2 x 2 blocks, of the crop alone.

    Args:
        data, mask: (slow, fast).
        row, column: Where the crop starts, bins.
        image: float32 (size, size), written; 0 stays where no pixel is used.
        used: bool (size, size), written.
    """
    size = image.shape[0]
    first_row, last_row = _overlap(row, size, data.shape[0] // 2)
    first, last = _overlap(column, size, data.shape[1] // 2)
    left, right = 2 * (column + first), 2 * (column + last)
    for i in range(first_row, last_row):
        y = 2 * (row + i)
        _bin_two_rows(
            data[y, left:right],
            data[y + 1, left:right],
            mask[y, left:right],
            mask[y + 1, left:right],
            image[i, first:last],
            used[i, first:last],
        )


@njit()
def _bin_two_rows(above, below, used_above, used_below, image, used):
    """Two rows of pixels (2 n,) and their mask to one of bins (n,).

    Pixels are read in any case: a read on condition does not vectorise as well.
    """
    none = np.float32(0)
    for j in range(len(image)):
        a, b = np.float32(above[2 * j]), np.float32(above[2 * j + 1])
        c, d = np.float32(below[2 * j]), np.float32(below[2 * j + 1])
        count = np.int32(used_above[2 * j]) + np.int32(used_above[2 * j + 1])
        count += np.int32(used_below[2 * j]) + np.int32(used_below[2 * j + 1])
        total = a if used_above[2 * j] else none
        total += b if used_above[2 * j + 1] else none
        total += c if used_below[2 * j] else none
        total += d if used_below[2 * j + 1] else none
        image[j] = total / np.float32(max(count, 1))
        used[j] = count > 0


@njit()
def _bin_by(data, mask, row, column, binning, image, used):
    """Means of the used pixels of binning x binning blocks, as _bin_by_two."""
    size = image.shape[0]
    first_row, last_row = _overlap(row, size, data.shape[0] // binning)
    first_column, last_column = _overlap(column, size, data.shape[1] // binning)
    for i in range(first_row, last_row):
        for j in range(first_column, last_column):
            total, count = 0.0, 0
            for y in range(binning * (row + i), binning * (row + i + 1)):
                for x in range(binning * (column + j), binning * (column + j + 1)):
                    if mask[y, x]:
                        total += data[y, x]
                        count += 1
            image[i, j] = total / max(count, 1)
            used[i, j] = count > 0


@njit()
def _normalise(image, used):
    """preprocessing.local_contrast_normalise of a crop.

    Args:
        image: float32 (rows, columns), 0 where not used.
        used: bool (rows, columns).

    Returns:
        float32 (rows, columns).
    """
    rows, columns = image.shape
    result = np.zeros((rows, columns), dtype=np.float32)
    mean, deviation, count = _moments(image, used)
    if count == 0 or deviation <= FLAT * abs(mean):
        return result
    floor = (FLAT * deviation) ** 2
    unmasked = count == rows * columns
    # The last five rows less the frame's mean, their squares and masks, each written
    # once, in float64: a difference of large sums follows. (5, columns) each.
    value = np.zeros((LCN_WINDOW, columns))
    square = np.zeros((LCN_WINDOW, columns))
    number = np.zeros((LCN_WINDOW, columns))
    # Sums down these rows, with two more columns at either end.
    sums = np.full((3, columns + 2 * _REACH), float(LCN_WINDOW))
    for i in range(-_REACH, rows + _REACH):
        y, slot = _mirror(i, rows), (i + _REACH) % LCN_WINDOW
        _row_of_values(image[y], used[y], mean, value[slot], square[slot])
        if not unmasked:
            number[slot] = used[y]
        if i >= _REACH:
            _sum_rows(value, sums[0])
            _sum_rows(square, sums[1])
            if not unmasked:
                _sum_rows(number, sums[2])
            centre = (slot - _REACH) % LCN_WINDOW
            _normalise_row(
                value[centre], used[i - _REACH], sums, floor, result[i - _REACH]
            )
    return result


@njit()
def _row_of_values(image, used, mean, value, square):
    """Differences from the mean and their squares, 0 where not used: (columns,)."""
    for j in range(len(value)):
        difference = np.float64(image[j]) - mean
        v = difference if used[j] else 0.0
        value[j] = v
        square[j] = v * v


@njit()
def _sum_rows(rows, out):
    """Sum five rows (5, columns) into out (columns + 4,), its ends reflected."""
    a, b, c, d, e = rows[0], rows[1], rows[2], rows[3], rows[4]  # (columns,)
    for j in range(rows.shape[1]):
        out[j + _REACH] = a[j] + b[j] + c[j] + d[j] + e[j]
    last = out.shape[0] - 1
    for k in range(_REACH):
        out[k] = out[2 * _REACH - k]
        out[last - k] = out[last - 2 * _REACH + k]


@njit()
def _normalise_row(value, used, sums, floor, out):
    """Equation 7 for one row.

    Args:
        value: float64 (columns,), pixel - mean of the frame.
        used: bool (columns,).
        sums: float64 (3, columns + 4), of values, squares and used pixels down the
            five rows around.
        floor: The least local variance.
        out: float32 (columns,), written.
    """
    total, square, number = sums  # (columns + 4,) each
    for j in range(out.shape[0]):
        t = total[j] + total[j + 1] + total[j + 2] + total[j + 3] + total[j + 4]
        s = square[j] + square[j + 1] + square[j + 2] + square[j + 3] + square[j + 4]
        n = number[j] + number[j + 1] + number[j + 2] + number[j + 3] + number[j + 4]
        # n times the difference from the local mean (equation 8), and n squared times
        # the variance (equation 9): their ratio needs no division by n.
        difference = np.float32(n * value[j] - t)
        variance = n * s - t * t
        keep = used[j] and variance > floor * n * n
        root = np.sqrt(np.float32(variance if keep else 1.0))
        out[j] = difference / root if keep else np.float32(0)


@njit(fastmath={"reassoc", "contract"})
def _moments(image, used):
    """Mean and standard deviation of the used pixels of (rows, columns); their number.

    Unused pixels are 0 in the image. Sums may be reordered, so that they vectorise.
    """
    count, total = 0, 0.0
    for i in range(image.shape[0]):
        for j in range(image.shape[1]):
            count += used[i, j]
            total += image[i, j]
    mean = total / max(count, 1)
    square = 0.0
    for i in range(image.shape[0]):
        for j in range(image.shape[1]):
            difference = image[i, j] - mean if used[i, j] else 0.0
            square += difference * difference
    return mean, np.sqrt(square / max(count, 1)), count


@njit()
def _mirror(index, length):
    """An index reflected about the first and last of so many elements."""
    if index < 0:
        return -index
    return 2 * (length - 1) - index if index >= length else index
