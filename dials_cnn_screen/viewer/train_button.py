"""The button that trains on the labels so far: start, progress, stop, result."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import wx

from dials_cnn_screen.labels.label_file import LabelFile
from dials_cnn_screen.viewer.panel import AnnotationPanel
from dials_cnn_screen.viewer.stock_viewer import StockViewer
from dials_cnn_screen.viewer.trainer import Trainer, format_wanting

logger = logging.getLogger("dials.cnn_annotate")


class TrainButton:
    """What the button and the key do, and what the panel says of it."""

    def __init__(
        self, panel: AnnotationPanel, key: str, on_scores: Callable[[Path], None]
    ) -> None:
        """Nothing is trained yet.

        Args:
            panel: Shows how far a training is.
            key: Shown as what stops it.
            on_scores: Called with the new model's scores of all images.
        """
        self._panel = panel
        self._key = key
        self._on_scores = on_scores
        self._trainer: Trainer | None = None

    def toggle(self, labels: LabelFile, viewer: StockViewer) -> None:
        """Train on these labels of the viewer's images, or stop that."""
        if self._trainer is not None:
            self.stop()
            self._panel.show_training("Training stopped")
            return
        wanting = format_wanting(labels.counts())
        if labels.notes.get("compare"):
            wanting = "No training in a second pass: its order is not to change"
        try:
            if wanting is not None:
                raise ValueError(wanting)
            with wx.BusyCursor():
                self._trainer = Trainer(
                    labels.path,
                    viewer.experiments,
                    lambda text: wx.CallAfter(self._on_progress, text),
                    lambda error: wx.CallAfter(self._on_end, error),
                )
        except (ValueError, OSError) as error:
            self._panel.show_training(str(error), warning=True)
            wx.Bell()

    def stop(self) -> None:
        """Stop it, if it goes on."""
        if self._trainer is not None:
            self._trainer.stop()
            self._trainer = None

    def _on_progress(self, text: str) -> None:
        if self._trainer is not None:
            self._panel.show_training(f"{text}   ({self._key} to stop)")

    def _on_end(self, error: str | None) -> None:
        trainer, self._trainer = self._trainer, None
        if trainer is None:  # stopped meanwhile
            return
        try:
            if error is not None:
                raise ValueError(error)
            self._on_scores(trainer.scores)
        except (ValueError, OSError) as problem:
            logger.warning("The training failed: %s", problem)
            self._panel.show_training(f"Training failed: {problem}", warning=True)
            return
        logger.info("Saved the model to %s", trainer.model)
        logger.info("Saved its scores of all images to %s", trainer.scores)
        self._panel.show_training(
            f"Re-ordered by the model trained on these labels, {trainer.model.name}"
        )
