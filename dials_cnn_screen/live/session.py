"""A live run from its first image to its end: record, status, page and outputs."""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import dataclass
from typing import Any

from dials_cnn_screen.images.stills import Still
from dials_cnn_screen.live.account import Account
from dials_cnn_screen.live.arrivals import Done, LiveSource
from dials_cnn_screen.live.files import FileSource
from dials_cnn_screen.live.page import format_state, write_live_page, write_status
from dials_cnn_screen.live.parameters import Parameters
from dials_cnn_screen.live.run import LiveRun
from dials_cnn_screen.outputs.experiments import write_experiments
from dials_cnn_screen.outputs.kept import write_image_list
from dials_cnn_screen.screening.decision import Decision
from dials_cnn_screen.screening.progress import EVERY
from dials_cnn_screen.screening.results import (
    ModelSummary,
    ScreeningResults,
    write_results,
)
from dials_cnn_screen.screening.run_record import RunRecord
from dials_cnn_screen.util.files import replacing_together
from dials_cnn_screen.util.interrupts import Interrupted, interruptible

logger = logging.getLogger("dials.cnn_live")


@dataclass(eq=False)
class Session:
    """A live run with all that is written about it.

    Attributes:
        source: Where images come from.
        run: That classifies them.
        record: That each result goes to.
        account: What it has come to.
        model, decision: That classify the images.
        params: Of the program.
        citation: For the page.
    """

    source: LiveSource
    run: LiveRun
    record: RunRecord
    account: Account
    model: ModelSummary
    decision: Decision
    params: Parameters
    citation: str

    def __post_init__(self) -> None:
        self._stills: dict[int, Still] = {}
        self._written = self._said = time.monotonic()

    def screen(self) -> Interrupted | None:
        """Classify what comes until the source ends, or Ctrl-C or SIGTERM does.

        Returns:
            What ended it before the source did; None if that did.

        Raises:
            ValueError, OSError: The source fails, or a file can't be written.
        """
        stopped = None
        results = self.run.results()
        try:
            with interruptible(), contextlib.closing(results):
                self._write_state("running")
                for done in results:
                    if done is not None:
                        self._add(done)
                    self._write_now_and_then()
        except Interrupted as error:
            stopped = error
        for done in self.run.rest():
            self._add(done)
        return stopped

    def _add(self, done: Done) -> None:
        self.record.add(done.place, done.result)
        self.account.add(done)
        if isinstance(done.image, Still):
            self._stills[done.place] = done.image

    def _write_now_and_then(self) -> None:
        now = time.monotonic()
        if now - self._written > self.params.output.every:
            self._write_state("running")
            self._written = time.monotonic()
        if now - self._said > EVERY:
            self._said = now
            logger.info("%s", format_state(self._state("running")))

    def _state(self, state: str) -> dict[str, Any]:
        behind, repeated = self.run.intake.behind(), self.run.n_repeated
        return self.account.as_json(state, behind, repeated, self.source.faults())

    def _write_state(self, state: str) -> None:
        """Write the status file and the page."""
        output, status = self.params.output, self._state(state)
        if output.status is not None:
            write_status(output.status, status)
        if output.html is not None:
            write_live_page(
                output.html,
                status,
                self.account,
                self.run,
                self.model,
                self.decision,
                output.every,
                self.citation,
            )

    def results(self) -> ScreeningResults:
        """Those of all images, in the order in which they came."""
        return ScreeningResults(self.model, self.decision, self.record.results())

    def write_outputs(self) -> None:
        """Write what is written at the end: status, page, scores, kept images."""
        output, saved = self.params.output, []
        self._write_state("ended")
        results = self.results()
        if not results.images:
            return
        with replacing_together():
            if output.scores is not None:
                write_results(output.scores, results)
                saved.append(f"the scores to {output.scores}")
            if output.image_list is not None:
                listed = [image for image in results.images if image.kept]
                write_image_list(output.image_list, listed)
                saved.append(f"a list of {len(listed)} images to {output.image_list}")
            if output.experiments is not None and isinstance(self.source, FileSource):
                stills = [self._stills[index] for index in sorted(self._stills)]
                kept = [self.record.done[i].kept for i in sorted(self._stills)]
                experiments = self.source.experiments
                n = write_experiments(output.experiments, experiments, stills, kept)
                saved.append(f"{n} of {len(stills)} images to {output.experiments}")
        for what in saved:
            logger.info("Saved %s", what)
