"""Simulate the calibration hits of a packaged model once more.

Run as ``python -m dials_cnn_screen.studies.recalibrate MODEL OUTPUT`` for default or
ke2018: simulates the shots that they are calibrated on, and writes the model with what
it makes of the hits among them. make_default.py does it for a new model.
"""

from __future__ import annotations

import sys
from dataclasses import replace

from dials_cnn_screen.models.model_file import load_model, save_model
from dials_cnn_screen.studies import make_default, make_ke2018
from dials_cnn_screen.studies.simulate_hits import with_simulated_hits

_JOBS = {
    "default": make_default.calibration_jobs,
    "ke2018": make_ke2018.validation_jobs,
}


def main(name: str, output: str) -> None:
    """Write the packaged model of a name with its calibration hits simulated again."""
    if name not in _JOBS:
        raise ValueError(f"'{name}': not {' or '.join(_JOBS)}")
    model = load_model(name)
    calibration = with_simulated_hits(model, _JOBS[name]())
    save_model(output, replace(model, calibration=calibration))


if __name__ == "__main__":
    main(*sys.argv[1:])
