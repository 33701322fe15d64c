"""Models: what comes with the package, model files, predictions on plain arrays.

from dials_cnn_screen.models import load_model
prediction = load_model("default").predict(data, mask, beam_centre)
"""

from __future__ import annotations

from dials_cnn_screen.models.model_file import load_model, save_model

__all__ = ["load_model", "save_model"]
