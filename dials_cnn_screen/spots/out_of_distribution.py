"""How unlike its training a frame is, by what the network sees of it.

The Mahalanobis distance of a frame's features from those of held-out training shots,
after Lee, K., Lee, K., Lee, H. & Shin, J. (2018), NeurIPS 31, 7167, "A simple unified
framework for detecting out-of-distribution samples and adversarial attacks". They have
a mean for each class; here is one for all: Hit, Maybe and Miss are cut out of one range
of numbers of spots, without gaps between, and which of them a frame is is not asked.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Weight, in the covariance, of what is the same for all features: their mean variance.
# So no direction is without variance, not even that of a feature that is constant. Of
# shots of other simulated experiments 3% were unlike with 0.0001, and 1% with 0.01.
SHRINKAGE = 0.01


@dataclass(frozen=True, eq=False)
class Familiarity:
    """What is like training: a mean, a scale in every direction, and a limit.

    mean: float64 (f,). whitening: float64 (f, f); the distance of features x is
    |(x - mean) @ whitening|. limit: the distance up to which x is like training.
    Raises ValueError for other shapes, what is not finite, and a limit of 0 or less.
    """

    mean: np.ndarray
    whitening: np.ndarray
    limit: float

    def __post_init__(self) -> None:
        f = self.mean.size
        if self.mean.shape != (f,) or self.whitening.shape != (f, f):
            raise ValueError(
                f"a familiarity with a mean {self.mean.shape} and a whitening "
                f"{self.whitening.shape}, not (f,) and (f, f)"
            )
        if not (np.isfinite(self.mean).all() and np.isfinite(self.whitening).all()):
            raise ValueError("a familiarity with numbers that are not finite")
        if not 0 < self.limit < np.inf:
            raise ValueError(f"a familiarity with limit={self.limit}, not over 0")

    def distance(self, features: np.ndarray) -> np.ndarray:
        """Mahalanobis distance of features (n, f) from the mean; float64 (n,)."""
        return np.linalg.norm((features - self.mean) @ self.whitening, axis=1)

    def strangeness(self, features: np.ndarray) -> np.ndarray:
        """Distance over limit of features (n, f); (n,), over 1 unlike training."""
        return self.distance(features) / self.limit


def is_unlike(strangeness: float | None) -> bool | None:
    """Whether a frame so strange is unlike training; None where that is not known."""
    return None if strangeness is None else strangeness > 1


def fit_familiarity(features: np.ndarray, exceeded: float = 0.001) -> Familiarity:
    """The familiarity of features (n, f) of shots that were not trained on.

    exceeded: fraction of these shots that are farther off than the limit. With fewer
    than 1 / exceeded shots the limit is near the largest distance. Raises ValueError
    where features are not finite or the same in all shots.
    """
    features = np.asarray(features, dtype=np.float64)
    if not np.isfinite(features).all():
        raise ValueError("features of held-out shots are not all finite")
    if (features == features[:1]).all():
        raise ValueError(
            f"the features of all {len(features)} held-out shots are equal"
        )
    mean = features.mean(axis=0)
    covariance = np.cov(features, rowvar=False, bias=True)
    same = np.eye(len(mean)) * np.trace(covariance) / len(mean)
    covariance = (1 - SHRINKAGE) * covariance + SHRINKAGE * same
    # L of covariance^-1 = L L^T: then |x L|^2 = x covariance^-1 x^T.
    whitening = np.linalg.cholesky(np.linalg.inv(covariance))
    unlimited = Familiarity(mean, whitening, 1.0)
    limit = np.quantile(unlimited.distance(features), 1 - exceeded)
    return Familiarity(mean, whitening, float(limit))
