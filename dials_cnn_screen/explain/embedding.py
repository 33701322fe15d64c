"""Similar images: t-SNE map of the feature vectors (Fig. 11), nearest neighbours.

Both by scikit-learn, on the features as they are, as in the paper.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# With fewer images there are no neighbourhoods to show; by hand.
MIN_IMAGES = 10
# About how many neighbours an image is placed by; the default of scikit-learn, and
# within the 5 to 50 that van der Maaten & Hinton (2008) recommend.
PERPLEXITY = 30.0


def check_scikit_learn() -> None:
    """Find out that scikit-learn is missing before hours of work for it.

    Raises:
        ValueError: It is missing; with what to install.
    """
    try:
        import sklearn  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f"scikit-learn is needed to find similar images ({error}): install "
            "python3-sklearn (Debian) or scikit-learn (pip, conda) for the Python that "
            "runs DIALS"
        ) from error


def perplexity(n: int) -> float:
    """The perplexity for n images: 30, or a third of the others if they are few."""
    return min(PERPLEXITY, (n - 1) / 3)


def why_no_map(features: NDArray[np.float32]) -> str:
    """Why there can be no map of features (n, f); empty where there can."""
    n = len(features)
    if n < MIN_IMAGES:
        are = "is" if n == 1 else "are"
        return (
            f"it takes {MIN_IMAGES} images that could be classified, and there {are} "
            f"{n}"
        )
    if (features == features[0]).all():
        return f"the feature vectors of all {n} images are the same"
    return ""


def embed(features: NDArray[np.float32], seed: int) -> NDArray[np.float64]:
    """Positions on a map on which neighbours have similar features.

    Distances between groups, and the axes, mean nothing. t-SNE: van der Maaten & Hinton
    (2008), J. Mach. Learn. Res. 9, 2579.

    Args:
        features: (n, f).
        seed: Another one gives another map.

    Returns:
        (n, 2), from 0 to 1, the wider axis from end to end.

    Raises:
        ValueError: why_no_map has a reason.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    if reason := why_no_map(features):
        raise ValueError(f"no map: {reason}")
    # One thread: others would wait for each other, see util/threads.py.
    with threadpool_limits(1):
        positions = TSNE(
            perplexity=perplexity(len(features)),
            init="pca",
            learning_rate="auto",
            random_state=seed,
        ).fit_transform(features)  # (n, 2)
    low, high = positions.min(axis=0), positions.max(axis=0)
    return 0.5 + (positions - (low + high) / 2).astype(np.float64) / (high - low).max()


def nearest(
    features: NDArray[np.float32], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The k nearest others of each image, the nearest first.

    Args:
        features: (n, f).
        k: At most n - 1 are found.

    Returns:
        Their indices, (n, k), and Euclidean distances, (n, k).
    """
    from sklearn.neighbors import NearestNeighbors

    k = min(k, len(features) - 1)
    if k < 1:
        nothing = (len(features), 0)
        return np.empty(nothing, dtype=np.int64), np.empty(nothing)
    search = NearestNeighbors(n_neighbors=k).fit(features)
    # Without an argument an image is not its own neighbour.
    distances, indices = search.kneighbors()
    return indices, distances
