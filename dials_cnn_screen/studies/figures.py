"""Figures 8, 9 and 11 of Ke et al. (2018)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dials_cnn_screen.explain.embedding import embed, why_no_map
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.labels.probabilities import PAPER_THRESHOLD, p_keep
from dials_cnn_screen.simulation.experiments import EXPERIMENTS
from dials_cnn_screen.studies.networks import Study, feature_vectors, train_network
from dials_cnn_screen.studies.shots import SEED
from dials_cnn_screen.training.history import draw_history
from dials_cnn_screen.util.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# As in Fig. 11.
COLOURS = {Label.MISS: "#1a9850", Label.MAYBE: "#2166ac", Label.HIT: "#b2182b"}
# Of the probability of an image that is right: as in Fig. 9, from the threshold on.
BINS = np.linspace(PAPER_THRESHOLD, 1, 26)


def figure_8(study: Study, folder: Path) -> Path:
    """Loss and success rate by epoch in the training of LO19's network."""
    path = folder / "figure_8.png"
    history = train_network(study, "LO19").history
    draw_history(path, history, "Training on LO19 (Fig. 8)")
    return path


def figure_9(study: Study, folder: Path) -> Path:
    """Probabilities that each experiment's network gives test shots it has right.

    Left P(Miss) of misses, right P(Hit) + P(Maybe) of the others.
    """
    figure = make_figure(7.0, 9.5)
    axes = figure.subplots(len(EXPERIMENTS), 2, sharex=True, squeeze=False)
    for row, name in zip(axes, EXPERIMENTS, strict=True):
        p = p_keep(train_network(study, name).p[name])
        kept = p >= PAPER_THRESHOLD
        positive = study.shots.labels(name) != Label.MISS
        for panel, title, certainty, colour in zip(
            row,
            ("Miss", "Hit or Maybe"),
            ((1 - p)[~positive & ~kept], p[positive & kept]),
            (COLOURS[Label.MISS], COLOURS[Label.HIT]),
            strict=True,
        ):
            heights, *_ = panel.hist(certainty, BINS, color=colour)
            n = len(certainty)
            mean = f", mean {certainty.mean():.2f}" if n else ""
            panel.set_title(f"{name}, {title}: {n} right{mean}", fontsize="small")
            panel.set_ylim(0, 1.05 * max(1, heights.max()))
            panel.yaxis.get_major_locator().set_params(integer=True)
        row[0].set_ylabel("shots")
    for panel, text in zip(axes[-1], ("P(Miss)", "P(Hit) + P(Maybe)"), strict=True):
        panel.set_xlabel(text)
    return save_figure(figure, folder / "figure_9.png")


def figure_11(study: Study, folder: Path) -> Path:
    """t-SNE of the feature vectors of LG36's test shots, by its own network."""
    trained, labels = train_network(study, "LG36"), study.shots.labels("LG36")
    features = feature_vectors(study, trained, "LG36")
    figure = make_figure(6.0, 5.5)
    axes = figure.subplots()
    axes.set(xticks=[], yticks=[])
    axes.set_title("LG36, t-SNE of the feature vectors (Fig. 11)", fontsize="medium")
    if reason := why_no_map(features):
        axes.text(0.5, 0.5, f"No map: {reason}", ha="center", wrap=True)
    else:
        places = embed(features, SEED)
        for label, colour in COLOURS.items():
            x, y = places[labels == label].T
            axes.scatter(x, y, s=14, color=colour, label=f"{label.title} ({len(x)})")
        axes.legend(fontsize="small")
    return save_figure(figure, folder / "figure_11.png")


FIGURES: tuple[Callable[[Study, Path], Path], ...] = (figure_8, figure_9, figure_11)


def make_figure(width: float, height: float) -> Figure:
    """An empty figure of that size, inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: Path) -> Path:
    """Write the figure as a PNG; returns its path."""
    with replacing(path) as unfinished:
        figure.savefig(unfinished, dpi=110)
    return path
