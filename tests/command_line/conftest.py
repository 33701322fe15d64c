"""Fixtures of all programs."""

from __future__ import annotations

import pytest


@pytest.fixture
def rotation(grid_scan) -> str:
    """Three images as a scan of 0.5 degrees an image: the name of its .expt file."""
    from dxtbx.imageset import ImageSetFactory
    from dxtbx.model import ScanFactory
    from dxtbx.model.experiment_list import ExperimentListFactory

    first = ExperimentListFactory.from_filenames(["thau_14.cbf.bz2"])[0]
    scan = ScanFactory.make_scan((14, 16), 0.1, (90, 0.5), {i: 0.0 for i in range(3)})
    models = {"beam": first.beam, "detector": first.detector}
    sequence = ImageSetFactory.make_sequence(
        "thau_##.cbf.bz2",
        [14, 15, 16],
        goniometer=first.goniometer,
        scan=scan,
        **models,
    )
    experiments = ExperimentListFactory.from_imageset_and_crystal(sequence, None)
    experiments[0].identifier = "scan"
    experiments.as_file("scan.expt")
    return "scan.expt"
