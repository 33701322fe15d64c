"""All that an evaluation comes to, and cnn_evaluate.json."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from dials_cnn_screen import __version__
from dials_cnn_screen.evaluation.audit import Audit
from dials_cnn_screen.evaluation.figures import LabelledResults, evaluate
from dials_cnn_screen.evaluation.input import LabelledImages, SpotFindingResults
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.screening.results import ScreeningResults, image_as_json
from dials_cnn_screen.util.provenance import find_versions

# What cnn_evaluate.json repeats of an image's entry in cnn_screen.json.
_OF_SCREENING = (
    *(f"p_{label.key}" for label in Label),
    "p_keep",
    "class",
    "kept",
    "out_of_distribution",
    "error",
)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What is known of labelled images.

    Attributes:
        images: The images, n of them.
        screening: The model's results for them, in their order; None without a model.
        spots: Those of spot finding, in their order; None without.
        audit: Of the whole run that the results are from; None without.
    """

    images: LabelledImages
    screening: ScreeningResults | None
    spots: SpotFindingResults | None
    audit: Audit | None = None

    def as_json(self, parameters: str) -> dict[str, Any]:
        """All figures and images, in the form of cnn_evaluate.json.

        parameters: those that the user changed, in PHIL form.
        """
        screening, spots = self.screening, self.spots
        eye = None if screening is None else screening.decision.eye
        results = {
            "program": "dials.cnn_evaluate",
            "version": __version__,
            "versions": find_versions(),
            "parameters": parameters,
            "model": None if screening is None else asdict(screening.model),
            "eye": eye and asdict(eye),
            **evaluate(
                LabelledResults(
                    self.images.labels,
                    screening,
                    None if spots is None else spots.n_spots,
                ),
                self.images.training,
                None if spots is None else spots.min_spots,
            ),
            "audit": None if self.audit is None else self.audit.as_json(),
            "images": self._describe_images(),
        }
        if screening is not None:
            results["cnn"]["seconds"] = _mean_seconds(screening)
        if spots is not None:
            results["spotfinder"]["source"] = spots.source
            results["spotfinder"]["parameters"] = spots.parameters
            results["spotfinder"]["seconds"] = spots.seconds
        return results

    def _describe_images(self) -> list[dict[str, Any]]:
        """An entry for each image."""
        described = []
        for i, name in enumerate(self.images.display_names()):
            entry = {
                "file": name.path,
                "frame": name.number,
                "expert": Label(self.images.labels[i]).title,
                "training": bool(self.images.training[i]),
            }
            if self.screening is not None:
                result = image_as_json(i, self.screening.images[i], name)
                entry |= {key: result[key] for key in _OF_SCREENING}
            if self.spots is not None:
                entry["spotfinder_spots"] = int(self.spots.n_spots[i])
            described.append(entry)
        return described


def _mean_seconds(screening: ScreeningResults) -> dict[str, float] | None:
    """Mean time of each step; None where it was not measured."""
    seconds = screening.mean_seconds()
    if not (seconds > 0).any():
        return None
    steps = ("reading", "preparing", "classifying")
    return dict(zip(steps, seconds.round(4).tolist(), strict=True))
