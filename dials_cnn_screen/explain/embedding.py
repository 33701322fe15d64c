"""Images that are alike: t-SNE of the feature vectors (Fig. 11), nearest neighbours.

Both by scikit-learn, on the features as they are, as in the paper.
"""

from __future__ import annotations

import numpy as np

# With fewer images there are no neighbourhoods to show.
FEWEST = 10
# The usual perplexity, about how many neighbours an image is placed by.
PERPLEXITY = 30.0


def check_scikit_learn() -> None:
    """Raise ValueError where scikit-learn is missing, before hours of work for it."""
    try:
        import sklearn  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f"scikit-learn is needed to find images that are alike ({error}): install "
            "python3-sklearn (Debian) or scikit-learn (pip, conda) for the Python that "
            "runs DIALS"
        ) from error


def perplexity(n: int) -> float:
    """The perplexity for n images: 30, or a third of the others if they are few."""
    return min(PERPLEXITY, (n - 1) / 3)


def why_no_map(features: np.ndarray) -> str:
    """Why there can be no map of features (n, f); empty where there can."""
    n = len(features)
    if n < FEWEST:
        return f"it takes {FEWEST} images that could be judged, and there are {n}"
    if (features == features[0]).all():
        return f"the feature vectors of all {n} images are the same"
    return ""


def embed(features: np.ndarray, seed: int) -> np.ndarray:
    """Places on a map, float64 (n, 2) from 0 to 1, of features (n, f).

    Neighbours on the map have features that are alike; distances between groups, and
    the axes, mean nothing. t-SNE: van der Maaten & Hinton (2008), J. Mach. Learn. Res.
    9, 2579. Raises ValueError where why_no_map has a reason.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    if reason := why_no_map(features):
        raise ValueError(f"no map: {reason}")
    # One thread: others would wait for each other, and see threads.py.
    with threadpool_limits(1):
        places = TSNE(
            perplexity=perplexity(len(features)),
            init="pca",
            learning_rate="auto",
            random_state=seed,
        ).fit_transform(features)
    low, high = places.min(axis=0), places.max(axis=0)
    return 0.5 + (places - (low + high) / 2).astype(np.float64) / (high - low).max()


def nearest(features: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest others of each image, by features (n, f), the nearest first.

    Returns their indices, int (n, k), and distances, float64 (n, k); as many as there
    are, where n is not above k.
    """
    from sklearn.neighbors import NearestNeighbors

    k = min(k, len(features) - 1)
    if k < 1:
        return np.empty((len(features), 0), dtype=int), np.empty((len(features), 0))
    search = NearestNeighbors(n_neighbors=k).fit(features)
    # Without an argument an image is not its own neighbour.
    distances, indices = search.kneighbors()
    return indices, distances
