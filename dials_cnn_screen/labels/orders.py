"""In which order the images are labelled, so that few labels are enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from dials_cnn_screen.labels.label_file import Name, tell_name

# Of the scores file, what images differ by; n_spots and strangeness as logarithms.
_NUMBERS = ("p_hit", "p_maybe", "p_miss", "n_spots", "strangeness")


def random_order(n: int, seed: int) -> list[int]:
    """n images at random."""
    return np.random.default_rng(seed).permutation(n).tolist()


def uncertain_order(names: Sequence[Name], scores: Mapping[Name, dict]) -> list[int]:
    """The images nearest to the decision first (Lewis & Gale, 1994).

    scores: the entry of each image in cnn_screen.json. By how far P(Hit) + P(Maybe) is
    from 0.5; images that could not be judged come last. Raises ValueError for an image
    without an entry.
    """
    entries = _look_up(names, scores)
    doubt = [
        1.0 if e["p_hit"] is None else abs(e["p_hit"] + e["p_maybe"] - 0.5)
        for e in entries
    ]
    return np.argsort(doubt, kind="stable").tolist()


def diverse_order(names: Sequence[Name], scores: Mapping[Name, dict]) -> list[int]:
    """Each image as unlike those before it as can be (Sener & Savarese, 2018).

    The greedy choice of k centres: the first is the one nearest to the mean, the next
    always that farthest from all chosen. What is compared is what the scores file has
    of an image: probabilities, number and spread of the spots, strangeness, and its
    place in the run, each scaled to a variance of 1. Images that could not be judged
    come last. Raises ValueError for an image without an entry.
    """
    entries = _look_up(names, scores)
    judged = [i for i, e in enumerate(entries) if e["p_hit"] is not None]
    others = [i for i, e in enumerate(entries) if e["p_hit"] is None]
    if not judged:
        return others
    x = np.array([[*_features(entries[i]), i] for i in judged], dtype=np.float64)
    x = (x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-9)
    chosen = [int(np.argmin((x**2).sum(axis=1)))]
    distance = np.full(len(x), np.inf)
    for _ in range(len(x) - 1):
        to_last = ((x - x[chosen[-1]]) ** 2).sum(axis=1)
        distance = np.minimum(distance, to_last)
        distance[chosen[-1]] = -1  # not again, even among images that are equal
        chosen.append(int(np.argmax(distance)))
    return [judged[i] for i in chosen] + others


def _features(entry: Mapping) -> list[float]:
    """What one image differs from others by: the numbers, and where its spots are."""
    numbers = [float(entry.get(key) or 0) for key in _NUMBERS]
    numbers[3:] = np.log1p(np.maximum(numbers[3:], 0)).tolist()
    spots = np.asarray(entry.get("spots") or np.zeros((1, 2)), dtype=np.float64)
    return [*numbers, *spots.mean(axis=0).tolist(), *spots.std(axis=0).tolist()]


def _look_up(names: Sequence[Name], scores: Mapping[Name, dict]) -> list[dict]:
    missing = [name for name in names if name not in scores]
    if missing:
        raise ValueError(
            f"{tell_name(missing[0])} has no scores; screen these images with "
            "dials.cnn_screen first"
        )
    return [scores[name] for name in names]
