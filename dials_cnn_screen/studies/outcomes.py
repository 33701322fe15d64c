"""Simulated shots that a model classified, for tables of how right it is."""

from __future__ import annotations

from dataclasses import dataclass

from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.models.prediction import Prediction
from dials_cnn_screen.screening.decision import Decision, why_kept

# What is kept by Ke et al. (2018).
PAPER_RULE = Decision()
# Names matter for the audit alone, and there is none.
_NAME = ImageName("simulated")


def is_kept(prediction: Prediction, decision: Decision) -> bool:
    """Whether screening keeps a shot of this prediction."""
    return why_kept(_NAME, prediction, decision) is not None


@dataclass(frozen=True)
class Outcome:
    """One simulated shot and the model's prediction.

    Attributes:
        n_visible: Number of visible spots.
        fourth_best: Significance of the fourth best spot where the expert looks, as one
            would measure it who knew all places, that is with noise of one standard
            deviation.
        label: By the visible spots.
        kind: As in Shot.
        prediction: Of the model.
    """

    n_visible: int
    fourth_best: float
    label: Label
    kind: str
    prediction: Prediction

    @property
    def kept(self) -> bool:
        """Whether screening keeps the shot at the paper's threshold."""
        return self.is_kept(PAPER_RULE)

    def is_kept(self, decision: Decision) -> bool:
        """Whether screening keeps the shot by this decision."""
        return is_kept(self.prediction, decision)
