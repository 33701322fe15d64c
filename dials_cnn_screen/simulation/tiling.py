"""Tilings of detectors: where the active areas of a frame are."""

from __future__ import annotations

# (slow, fast, slow, fast): first corner and, exclusive, the last one, pixels.
Rectangle = tuple[int, int, int, int]

# Corners (slow, fast) and direction of the 32 two-by-one modules of the CSPAD in the
# monolithic array of CXIDB-76, read off the untrusted-pixel mask deposited for LG36.
# Each module is two ASICs of 185 x 194 pixels (section 3.2), three pixels apart in its
# direction.
_CSPAD_MODULES = """
24 1279 h, 25 858 v, 26 1065 v, 99 20 v, 100 230 v, 119 447 h, 232 1278 h, 328 450 h,
446 856 h, 448 1258 v, 448 1463 v, 524 23 h, 527 448 v, 527 655 v, 654 856 h, 731 24 h,
855 937 v, 855 1143 v, 856 1361 h, 936 127 v, 936 335 v, 937 532 h, 1060 1361 h,
1142 532 h, 1257 935 h, 1276 1359 v, 1285 1566 v, 1359 106 h, 1360 734 v, 1361 531 v,
1463 934 h, 1573 101 h
"""
_ASIC_SHORT, _ASIC_LONG, _ASIC_PITCH = 185, 194, 197
# Areas this narrow or narrower, pixels, are left out of a window. By hand: within
# their masked borders little would be left.
_SLIVER = 4


def cspad_areas() -> tuple[Rectangle, ...]:
    """The 64 ASICs of the CSPAD in the 1765 x 1765 array of CXIDB-76."""
    areas = []
    for module in _CSPAD_MODULES.replace("\n", " ").split(","):
        slow, fast, direction = module.split()
        for step in (0, _ASIC_PITCH):
            if direction == "h":
                y, x = int(slow), int(fast) + step
                areas.append((y, x, y + _ASIC_SHORT, x + _ASIC_LONG))
            else:
                y, x = int(slow) + step, int(fast)
                areas.append((y, x, y + _ASIC_LONG, x + _ASIC_SHORT))
    return tuple(areas)


def grid_areas(
    modules: tuple[int, int],
    chip: tuple[int, int],
    gap: tuple[int, int],
    chips: tuple[int, int] = (1, 1),
    seam: int = 0,
) -> tuple[Rectangle, ...]:
    """Rows and columns of modules, each of rows and columns of chips.

    Args:
        modules: Number of modules along (slow, fast).
        chip: Size of a chip (slow, fast), pixels.
        gap: Gap between modules along (slow, fast), pixels.
        chips: Number of chips of a module along (slow, fast).
        seam: Gap between the chips of a module, pixels.
    """
    starts = []
    for axis in (0, 1):
        module = chips[axis] * chip[axis] + (chips[axis] - 1) * seam
        starts.append(
            [
                i * (module + gap[axis]) + k * (chip[axis] + seam)
                for i in range(modules[axis])
                for k in range(chips[axis])
            ]
        )
    return tuple((y, x, y + chip[0], x + chip[1]) for y in starts[0] for x in starts[1])


def pinwheel_areas(areas: tuple[Rectangle, ...], hole: int) -> tuple[Rectangle, ...]:
    """Four such quadrants set like a pinwheel around a hole.

    Args:
        areas: The active areas of one quadrant.
        hole: Edge of the square hole, pixels.
    """
    rows, columns = extent(areas)
    shifts = [(0, hole), (hole, columns + 2 * hole)]
    shifts += [(rows + hole, 0), (rows + 2 * hole, columns + hole)]
    return tuple(
        (y0 + dy, x0 + dx, y1 + dy, x1 + dx)
        for dy, dx in shifts
        for y0, x0, y1, x1 in areas
    )


def extent(areas: tuple[Rectangle, ...]) -> tuple[int, int]:
    """Shape (slow, fast) of the smallest frame from pixel 0 that has all areas."""
    return max(area[2] for area in areas), max(area[3] for area in areas)


def clip_areas(
    areas: tuple[Rectangle, ...], corner: tuple[int, int], shape: tuple[int, int]
) -> tuple[Rectangle, ...]:
    """The areas within a window, in its own pixels, without slivers.

    Args:
        areas: Active areas of the whole detector.
        corner: First pixel (slow, fast) of the window.
        shape: Of the window, (slow, fast), pixels.
    """
    clipped = []
    for area in areas:
        y0, y1 = (min(max(y - corner[0], 0), shape[0]) for y in area[::2])
        x0, x1 = (min(max(x - corner[1], 0), shape[1]) for x in area[1::2])
        if y1 - y0 > _SLIVER and x1 - x0 > _SLIVER:
            clipped.append((y0, x0, y1, x1))
    return tuple(clipped)
