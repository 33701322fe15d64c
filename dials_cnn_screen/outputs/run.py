"""The outputs of a screening run, put in place together."""

from __future__ import annotations

import logging
from dataclasses import replace

from dxtbx.model import ExperimentList

from dials_cnn_screen.outputs.experiments import write_experiments
from dials_cnn_screen.outputs.kept import write_kept
from dials_cnn_screen.outputs.report import write_report
from dials_cnn_screen.screening.parameters import Parameters
from dials_cnn_screen.screening.recorded import Screened
from dials_cnn_screen.screening.results import write_results
from dials_cnn_screen.util.files import replacing_together
from dials_cnn_screen.util.provenance import Provenance

logger = logging.getLogger("dials.cnn_screen")


def write_outputs(
    experiments: ExperimentList,
    screened: Screened,
    params: Parameters,
    made_with: Provenance,
    citation: str,
) -> None:
    """Write all outputs that are asked for, or none if there is an error.

    Args:
        experiments: That were screened.
        screened: What came of it.
        params: Names of the files, and on how many processes images are read again.
        made_with, citation: For the report.
    """
    output = params.output
    stills, results = screened.stills, screened.results
    with replacing_together():
        images, saved = write_kept(
            output, experiments, stills, results.images, params.mp
        )
        results = replace(results, images=images)
        for path, kept in ((output.experiments, True), (output.rejected, False)):
            if path is not None:
                every, chosen = screened.run.stills, screened.chosen(kept)
                n = write_experiments(path, experiments, every, chosen)
                saved.append(f"{n} of {len(every)} images to {path}")
        if output.scores is not None:
            write_results(output.scores, results)
            saved.append(f"the scores to {output.scores}")
        if output.html is not None:
            nproc = params.mp.nproc if params.mp.method != "mpi" else 1
            write_report(output.html, results, stills, made_with, citation, nproc)
            saved.append(f"the report to {output.html}")
    for what in saved:
        logger.info("Saved %s", what)
    if output.experiments is not None and any(screened.chosen(True)):
        logger.info("To process them: dials.stills_process %s", output.experiments)
