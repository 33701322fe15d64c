"""Where spots recur whatever the sample does: at pixels, not of crystals.

Hot pixels, scratches, borders of chips and static scatter are at the same pixels on
image after image; the spots of crystals are not, unless the sample stands still. All is
found from the results of a whole run, so that it does not depend on the order in which
they came.

1. A spot recurs at a pixel if that is its maximum on LEAST_SHARE of the images or more,
   in LEAST_STRETCHES of STRETCHES equal stretches of the run, and more often by
   LEAST_SIGMA standard deviations than at the pixels around it: low resolution and
   preferred orientation make wide crowds of spots, not single pixels.
2. A sample that stands still repeats its spots too. So the spot has to be there while
   the sample is seen to change: on images whose other spots, which do not recur, make
   them hits, in HIT_STRETCHES stretches; and on images without other spots at least
   half as often as on these.

What passes the first and not the second is in doubt.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dials_cnn_screen.labels.label import HIT_SPOTS, MAYBE_SPOTS
from dials_cnn_screen.util.significance import poisson_significance

# With fewer images of a detector nothing is concluded. This and the other constants of
# the file are by hand.
LEAST_IMAGES = 100
LEAST_SHARE = 0.03
# 30 consecutive images of one crystal are in few of these.
STRETCHES, LEAST_STRETCHES = 10, 8
# A detector has some 1e7 pixels: 5.2 standard deviations are one of them by chance.
LEAST_SIGMA = 6.0
# Pixels to each side of a recurring one that are left out with it, as far as the pixels
# of a spot go (CORE of outputs/strong.py), and to which those around it are counted.
REACH, AROUND = 3, 10
HIT_STRETCHES = 3
# Images without other spots tell nothing where there are fewer of them.
LEAST_MISSES = 20
# Places of a detector that the scores file has; the mask has all.
_LISTED = 100


@dataclass(frozen=True, eq=False)
class DetectorSpots:
    """The spots of all images of one detector.

    Attributes:
        sizes: (slow, fast) of each panel, pixels.
        n_images: Images that were classified.
        image: int64 (n,), which of these a spot is on, from 0, in the order of the run.
        panel: int64 (n,), the panel it is on.
        pixel: int64 (n, 2), its maximum, (slow, fast) indices on the panel.
    """

    sizes: list[tuple[int, int]]
    n_images: int
    image: NDArray[np.int64]
    panel: NDArray[np.int64]
    pixel: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Places:
    """Pixels at which spots recur, the most frequent first.

    Attributes:
        panel: int64 (p,).
        pixel: int64 (p, 2), (slow, fast) indices on the panel.
        n_images: int64 (p,), images with a spot there.
        in_doubt: bool (p,), whether a sample that stands still may be the cause.
    """

    panel: NDArray[np.int64]
    pixel: NDArray[np.int64]
    n_images: NDArray[np.int64]
    in_doubt: NDArray[np.bool_]

    def __len__(self) -> int:
        """Number of places."""
        return len(self.panel)

    def choose(self, chosen: NDArray[np.bool_]) -> Places:
        """Those of them for which chosen, bool (p,), is True."""
        return Places(*(values[chosen] for values in vars(self).values()))

    def as_json(self) -> list[dict[str, Any]]:
        """The most frequent ones, as the scores file has them."""
        listed = (values[:_LISTED].tolist() for values in vars(self).values())
        return [
            {
                "panel": panel,
                "slow": slow,
                "fast": fast,
                "images": n_images,
                "in_doubt": in_doubt,
            }
            for panel, (slow, fast), n_images, in_doubt in zip(*listed, strict=True)
        ]


@dataclass(frozen=True, eq=False)
class Recurring:
    """What recurs on one detector in a run.

    Attributes:
        n_images: Images of the detector that were classified.
        places: All places, those in doubt among them.
        n_masked: How many of them the mask has.
        n_pixels: Pixels of the mask, those around the places among them.
        n_with: Images with a spot at one of these.
        mask: File of the mask; None where there is none.
        left_out: Whether the images were classified again without these pixels.
    """

    n_images: int
    places: Places
    n_masked: int
    n_pixels: int
    n_with: int
    mask: str | None
    left_out: bool = False

    @property
    def n_in_doubt(self) -> int:
        """Places that may be of a sample that stands still."""
        return int(np.count_nonzero(self.places.in_doubt))

    def as_json(self) -> dict[str, Any]:
        """An entry of recurring in the scores file."""
        return {
            "images": self.n_images,
            "places": len(self.places),
            "places_in_doubt": self.n_in_doubt,
            "places_masked": self.n_masked,
            "pixels_masked": self.n_pixels,
            "images_with_them": self.n_with,
            "mask": self.mask,
            "left_out": self.left_out,
            "most_frequent": self.places.as_json(),
        }


NO_PLACES = Places(
    np.zeros(0, np.int64),
    np.zeros((0, 2), np.int64),
    np.zeros(0, np.int64),
    np.zeros(0, bool),
)


def find_places(spots: DetectorSpots) -> Places:
    """Where spots recur on a detector; nowhere with fewer than LEAST_IMAGES images."""
    if spots.n_images < LEAST_IMAGES or not len(spots.image):
        return NO_PLACES
    ends = list(accumulate(slow * fast for slow, fast in spots.sizes))
    first = np.array([0, *ends[:-1]])  # (panels,), number of a panel's first pixel
    width = np.array([fast for _, fast in spots.sizes])
    slow, fast = spots.pixel.T
    numbers = first[spots.panel] + slow * width[spots.panel] + fast  # (n,)
    # A pixel of a tilted panel may be shown twice on a frame: it counts once.
    number, image = np.divmod(
        np.unique(numbers * spots.n_images + spots.image), spots.n_images
    )
    number, seed, count = np.unique(number, return_inverse=True, return_counts=True)
    stretch = image * STRETCHES // spots.n_images
    often = count >= LEAST_SHARE * spots.n_images
    often &= _count_stretches(seed, stretch, len(number)) >= LEAST_STRETCHES
    panel = np.searchsorted(ends, number, side="right")  # (pixels with spots,)
    pixel = np.stack(np.divmod(number - first[panel], width[panel]), axis=1)
    found = np.flatnonzero(often)
    chance = _expected(spots.sizes, panel, pixel, count, found)
    found = found[_exceeds(count[found], chance)]
    if not len(found):
        return NO_PLACES
    recurring = find_near(spots.sizes, panel[found], pixel[found], panel, pixel)
    in_doubt = _in_doubt(seed, image, stretch, found, recurring[seed], spots.n_images)
    order = np.argsort(-count[found], kind="stable")
    found = found[order]
    return Places(panel[found], pixel[found], count[found], in_doubt[order])


def _count_stretches(
    seed: NDArray[np.int64], stretch: NDArray[np.int64], n: int
) -> NDArray[np.int64]:
    """In how many stretches each of n pixels has a spot.

    Args:
        seed: int64 (m,), the pixel of each spot, from 0 to n - 1.
        stretch: int64 (m,), the stretch of its image.

    Returns:
        int64 (n,).
    """
    return np.bincount(np.unique(seed * STRETCHES + stretch) // STRETCHES, minlength=n)


def _exceeds(
    count: NDArray[np.int64], expected: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Which counts exceed what is expected by LEAST_SIGMA; both (m,)."""
    sigma = poisson_significance(np.maximum(count, expected), expected)
    return sigma >= LEAST_SIGMA


def _expected(
    sizes: list[tuple[int, int]],
    panel: NDArray[np.int64],
    pixel: NDArray[np.int64],
    count: NDArray[np.int64],
    found: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Spots to be expected at pixels by those around them, of the whole run.

    Args:
        sizes: (slow, fast) of each panel.
        panel, pixel, count: Of the pixels with spots, int64 (n,), (n, 2) and (n,).
        found: int64 (m,), which of these are meant.

    Returns:
        float64 (m,), not less than the mean of the detector.
    """
    mean = count.sum() / sum(slow * fast for slow, fast in sizes)
    expected = np.full(len(found), mean)
    for p in np.unique(panel[found]).tolist():
        counts = np.zeros(sizes[p], np.int64)
        on_panel = panel == p
        counts[tuple(pixel[on_panel].T)] = count[on_panel]
        for i in np.flatnonzero(panel[found] == p).tolist():
            around, near = (
                counts[window(pixel[found[i]], reach)] for reach in (AROUND, REACH)
            )
            n_pixels = around.size - near.size
            if n_pixels:
                n = (around.sum() - near.sum()) / n_pixels
                expected[i] = max(n, mean)
    return expected


def window(pixel: NDArray[np.int64], reach: int) -> tuple[slice, slice]:
    """The pixels up to so many from one along both axes."""
    slow, fast = (slice(max(0, x - reach), x + reach + 1) for x in pixel.tolist())
    return slow, fast


def draw_near(size: tuple[int, int], pixel: NDArray[np.int64]) -> NDArray[np.bool_]:
    """The pixels of a panel up to REACH from recurring ones.

    Args:
        size: (slow, fast) of the panel.
        pixel: int64 (p, 2), (slow, fast) indices of the recurring ones.

    Returns:
        bool (slow, fast), True = near.
    """
    near = np.zeros(size, bool)
    for each in pixel:
        near[window(each, REACH)] = True
    return near


def find_near(
    sizes: list[tuple[int, int]],
    panel: NDArray[np.int64],
    pixel: NDArray[np.int64],
    spot_panel: NDArray[np.int64],
    spot_pixel: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Which spots are up to REACH from recurring pixels.

    Args:
        sizes: (slow, fast) of each panel.
        panel, pixel: Of the recurring pixels, int64 (p,) and (p, 2).
        spot_panel, spot_pixel: Of the spots, int64 (n,) and (n, 2).

    Returns:
        bool (n,).
    """
    near = np.zeros(len(spot_panel), bool)
    for p in np.unique(panel).tolist():
        here = spot_panel == p
        drawn = draw_near(sizes[p], pixel[panel == p])
        near[here] = drawn[tuple(spot_pixel[here].T)]
    return near


def _in_doubt(
    seed: NDArray[np.int64],
    image: NDArray[np.int64],
    stretch: NDArray[np.int64],
    found: NDArray[np.int64],
    recurring: NDArray[np.bool_],
    n_images: int,
) -> NDArray[np.bool_]:
    """Which recurring pixels a sample that stands still may be the cause of.

    Args:
        seed, image, stretch: Of each spot, int64 (m,): its pixel, its image and the
            stretch of that.
        found: int64 (p,), the recurring pixels among the seeds.
        recurring: bool (m,), whether a spot is near one of these.
        n_images: Number of images.

    Returns:
        bool (p,).
    """
    other = np.bincount(image[~recurring], minlength=n_images)
    again = np.bincount(image[recurring], minlength=n_images)
    # In a still sample weak spots come now and then: fewer than those that recur.
    hit = (other >= HIT_SPOTS) & (other >= again)
    miss = other < MAYBE_SPOTS
    n_hits, n_misses = np.count_nonzero(hit), np.count_nonzero(miss)
    n_seeds = seed.max() + 1
    on_hit = hit[image]
    stretches = _count_stretches(seed[on_hit], stretch[on_hit], n_seeds)[found]
    hits, misses = (
        np.bincount(seed[chosen[image]], minlength=n_seeds)[found]
        for chosen in (hit, miss)
    )
    changes = stretches >= HIT_STRETCHES
    if n_misses >= LEAST_MISSES:
        changes &= 2 * misses * n_hits >= hits * n_misses
    return ~changes
