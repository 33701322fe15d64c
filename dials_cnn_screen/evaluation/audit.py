"""An upper limit of the hits among rejected images, from those kept at random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dials_cnn_screen.labels.image_name import ImageName, NameIndex
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.screening.results import ScreeningResults

# Confidence of the upper limit.
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Audit:
    """What the audited images of a run say of the rejected ones.

    Attributes:
        rejected: Images of the run below the threshold, with the audited ones.
        audited: Those kept at random (decision.keep_misses).
        labelled: Audited images that have a label.
        hits: Of these, those labelled Hit or Maybe.
    """

    rejected: int
    audited: int
    labelled: int
    hits: int

    @property
    def upper_limit(self) -> float:
        """Fraction of the rejected images that are hits at most, with CONFIDENCE.

        The one-sided limit of Clopper and Pearson (1934, Biometrika 26, 404). It
        assumes only that the labelled images are drawn at random from the rejected.
        """
        from scipy.stats import binomtest

        test = binomtest(self.hits, self.labelled, alternative="less")
        return float(test.proportion_ci(CONFIDENCE, method="exact").high)

    def as_json(self) -> dict[str, Any]:
        """The numbers and the limit, in the form of cnn_evaluate.json."""
        return {
            **vars(self),
            "confidence": CONFIDENCE,
            "upper_limit": self.upper_limit,
            "upper_limit_images": self.upper_limit * self.rejected,
        }


def audit_rejected(
    results: ScreeningResults,
    names: Sequence[ImageName],
    labels: NDArray[np.int64],
) -> Audit | None:
    """The audit of a run; None where no audited image has a label.

    Args:
        results: Of the whole run.
        names: Of labelled images, each of which is in the run.
        labels: int64 (n,), values of Label.
    """
    index = NameIndex([image.name for image in results.images])
    audited = {image.name for image in results.audited}
    of_audited = [
        label
        for name, label in zip(names, labels, strict=True)
        if (i := index.find(name)) is not None and results.images[i].name in audited
    ]
    if not of_audited:
        return None
    return Audit(
        rejected=len(audited) + results.kept.count(False),
        audited=len(audited),
        labelled=len(of_audited),
        hits=sum(label != Label.MISS for label in of_audited),
    )
