"""How far a frame is out of the distribution that its model was trained on.

The out-of-distribution score is the Mahalanobis distance of a frame's features from
those of held-out shots, sqrt((x - m) C^-1 (x - m)^T) with their mean m and covariance
C, over a limit that nearly all of these shots keep. After Lee, K., Lee, K., Lee, H. &
Shin, J. (2018), NeurIPS 31, 7167, "A simple unified framework for detecting
out-of-distribution samples and adversarial attacks". They have a mean for each class;
here is one for all, since Hit, Maybe and Miss are ranges of one number of spots,
without gaps between them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Weight of the features' mean variance, the same in all directions, in the covariance:
# so no direction is without variance, not even that of a constant feature. By hand: of
# shots of other simulated experiments 3% were out of distribution with 0.0001, and 1%
# with 0.01.
SHRINKAGE = 0.01


@dataclass(frozen=True, eq=False)
class OutOfDistribution:
    """The distribution of the features of shots like those of the training.

    Attributes:
        location: float64 (f,), their mean.
        whitening: float64 (f, f), L of C^-1 = L L^T for their covariance C; the
            distance of features x is |(x - location) @ whitening|.
        limit: The distance over which a frame is out of distribution.

    Raises:
        ValueError: Other shapes, numbers that are not finite, a limit of 0 or less.
    """

    location: NDArray[np.float64]
    whitening: NDArray[np.float64]
    limit: float

    def __post_init__(self) -> None:
        f = self.location.size
        if self.location.shape != (f,) or self.whitening.shape != (f, f):
            raise ValueError(
                f"an out-of-distribution model with a location {self.location.shape} "
                f"and a whitening {self.whitening.shape}, not (f,) and (f, f)"
            )
        if not (np.isfinite(self.location).all() and np.isfinite(self.whitening).all()):
            raise ValueError(
                "an out-of-distribution model with numbers that are not finite"
            )
        if not 0 < self.limit < np.inf:
            raise ValueError(
                f"an out-of-distribution model with limit={self.limit}, not over 0"
            )

    def mahalanobis(self, features: NDArray) -> NDArray[np.float64]:
        """Mahalanobis distance of features (n, f) from the mean, float64 (n,)."""
        # Not by BLAS, whose threads wait for each other longer than one frame takes.
        whitened = np.einsum("nf,fg->ng", features - self.location, self.whitening)
        return np.linalg.norm(whitened, axis=1)

    def score(self, features: NDArray) -> NDArray[np.float64]:
        """Distance of features (n, f) over the limit, float64 (n,).

        Over 1 a frame is out of distribution.
        """
        return self.mahalanobis(features) / self.limit


def is_out_of_distribution(ood_score: float | None) -> bool | None:
    """Whether a frame of this score is out of distribution; None: not known."""
    return None if ood_score is None else ood_score > 1


def fit_out_of_distribution(
    features: NDArray, exceeded: float = 0.001
) -> OutOfDistribution:
    """Fit the distribution of features of shots that were not trained on.

    Args:
        features: (n, f), of held-out shots.
        exceeded: Fraction of these shots that are farther off than the limit; chosen by
            hand. With fewer than 1 / exceeded shots the limit is near the largest
            distance.

    Raises:
        ValueError: The features are not finite, or the same in all shots.
    """
    features = np.asarray(features, dtype=np.float64)
    if not np.isfinite(features).all():
        raise ValueError("features of held-out shots are not all finite")
    if (features == features[:1]).all():
        raise ValueError(
            f"the features of all {len(features)} held-out shots are equal"
        )
    location = features.mean(axis=0)  # (f,)
    covariance = np.cov(features, rowvar=False, bias=True)  # (f, f)
    same = np.eye(len(location)) * np.trace(covariance) / len(location)
    covariance = (1 - SHRINKAGE) * covariance + SHRINKAGE * same
    # L of covariance^-1 = L L^T: then |x L|^2 = x covariance^-1 x^T.
    whitening = np.linalg.cholesky(np.linalg.inv(covariance))
    unlimited = OutOfDistribution(location, whitening, 1.0)
    limit = np.quantile(unlimited.mahalanobis(features), 1 - exceeded)
    return OutOfDistribution(location, whitening, float(limit))
