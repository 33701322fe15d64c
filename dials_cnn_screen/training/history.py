"""The history of a training run: its JSON, and drawn as in Fig. 8."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dials_cnn_screen.labels.confusion import confusion_counts, hit_or_miss
from dials_cnn_screen.labels.label import count_labels
from dials_cnn_screen.labels.splits import Splits
from dials_cnn_screen.training.fitting import Fit, Plan, describe
from dials_cnn_screen.training.loop import Epoch, best_epoch
from dials_cnn_screen.util.files import replacing
from dials_cnn_screen.util.intervals import format_percent

PICTURES = (".png", ".svg", ".pdf")
TRAINING, VALIDATION = "#2166ac", "#b2182b"


def summarise(
    plan: Plan, result: Fit, labels: NDArray[np.int64], splits: Splits
) -> dict[str, Any]:
    """The results of a training run as JSON values; labels: (n,), of all images."""
    test = labels[splits.test]
    return {
        **describe(plan, result),
        "splits": {
            name: {label.key: n for label, n in count_labels(labels[split]).items()}
            for name, split in splits._asdict().items()
        },
        "epochs": [vars(epoch) for epoch in result.history],
        "test_confusion": confusion_counts(test, result.predicted).tolist(),
        "test_confusion_before": None
        if result.before is None
        else confusion_counts(test, result.before).tolist(),
    }


def rates(labels: NDArray[np.int64], predicted: NDArray[np.int64]) -> list[str]:
    """Hit or Maybe kept, Miss rejected, three classes correct: %, 95% intervals.

    Args:
        labels: int64 (n,).
        predicted: int64 (n,).
    """
    counts = confusion_counts(labels, predicted)
    (kept, lost), (wrong, rejected) = hit_or_miss(counts)
    return [
        format_percent(count, int(total))
        for count, total in (
            (kept, kept + lost),
            (rejected, wrong + rejected),
            (np.trace(counts), counts.sum()),
        )
    ]


def write_history(path: str | Path, results: dict[str, Any]) -> None:
    """Write results as JSON."""
    with replacing(path) as unfinished:
        Path(unfinished).write_text(json.dumps(results, indent=1) + "\n", "utf-8")


def check_picture(path: str | Path) -> None:
    """Raise ValueError for a file whose extension is not that of a picture."""
    if Path(path).suffix not in PICTURES:
        raise ValueError(
            f"'{path}' is not the name of a picture; give it one of the extensions "
            f"{', '.join(PICTURES)}"
        )


def draw_history(path: str | Path, history: Sequence[Epoch], title: str) -> None:
    """Plot loss and success rate of training and validation by epoch.

    Args:
        path: Of the picture; the format goes by its extension, one of PICTURES.
        history: All epochs.
        title: Above the picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 5.4), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, sharex=True)
    best = best_epoch(list(history)).epoch
    for axes, unit, pair in (
        (above, "correct (%)", ("training_success", "validation_success")),
        (below, "loss", ("loss", "validation_loss")),
    ):
        for field, name, colour in zip(
            pair, ("training", "validation"), (TRAINING, VALIDATION), strict=True
        ):
            axes.plot(
                [epoch.epoch for epoch in history],
                [getattr(epoch, field) for epoch in history],
                "o-",
                markersize=3,
                color=colour,
                label=name,
            )
        axes.axvline(best, color="black", lw=1, ls=":", label=f"best: epoch {best}")
        axes.set_ylabel(unit)
        axes.grid(alpha=0.3)
    above.set_title(title, fontsize="medium")
    above.legend(fontsize="small")
    below.set_ylim(bottom=0)
    below.set_xlabel("epoch")
    below.xaxis.get_major_locator().set_params(integer=True)
    with replacing(path) as unfinished:
        figure.savefig(unfinished, dpi=110)
