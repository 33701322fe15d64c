"""From the arguments of dials.cnn_live to a run that is ready to begin."""

from __future__ import annotations

import os
from collections.abc import Sequence

from dials_cnn_screen.live.account import Account
from dials_cnn_screen.live.files import FileSource
from dials_cnn_screen.live.geometry import Reference
from dials_cnn_screen.live.parameters import Parameters
from dials_cnn_screen.live.run import LiveRun
from dials_cnn_screen.live.session import Session
from dials_cnn_screen.live.stream import StreamSource, is_stream, open_socket
from dials_cnn_screen.models.model import Model
from dials_cnn_screen.models.model_file import load_model
from dials_cnn_screen.outputs.log import log_text
from dials_cnn_screen.screening.calibration import choose_decision
from dials_cnn_screen.screening.decision import format_decision
from dials_cnn_screen.screening.results import ModelSummary
from dials_cnn_screen.screening.run import choose_device
from dials_cnn_screen.screening.run_record import RunIdentity, RunRecord
from dials_cnn_screen.util.files import check_outputs
from dials_cnn_screen.util.workers import count_processes

# More threads than this don't help. By hand.
_MOST_THREADS = 256


def find_source(args: Sequence[str]) -> tuple[str, list[str]]:
    """The source among the words of a command line, and the other words.

    Returns:
        The one word that is no option, parameter or .phil file; "" where there are no
        words but options.

    Raises:
        ValueError: There are several.
    """
    is_other = [w.startswith("-") or "=" in w or w.endswith(".phil") for w in args]
    sources = [word for word, other in zip(args, is_other, strict=True) if not other]
    others = [word for word, other in zip(args, is_other, strict=True) if other]
    if len(sources) > 1:
        raise ValueError(
            f"'{sources[0]}' and '{sources[1]}' are both sources; give one folder, "
            "file or stream"
        )
    return (sources[0] if sources else ""), others


def start_session(
    given: str, params: Parameters, citation: str
) -> tuple[Session, Model]:
    """A run that is ready to begin, and its model.

    Args:
        given: Folder, file or address of a stream.
        params: Of the program.
        citation: For the page.

    Raises:
        ValueError: There is no source, no such folder, or a parameter is wrong.
        OSError: A file can't be read or written.
    """
    if not given:
        raise ValueError(
            "no source: give a folder, an image file that grows, or the address of a "
            "stream, such as tcp://127.0.0.1:9999"
        )
    is_file = not is_stream(given)
    if is_file and not os.path.isdir(os.path.dirname(os.path.abspath(given))):
        raise ValueError(f"there is no folder for '{given}'")
    check_outputs(*params.output.files, inputs=[given])
    if params.model is None:
        raise ValueError("no model: give model=default or a file of dials.cnn_train")
    model = load_model(params.model)
    decision = choose_decision(params.decision, params.calibration, params.eye, model)
    log_text(format_decision(decision))
    summary = ModelSummary.of(model)
    place = os.path.abspath(given) if is_file else given
    source = _open_file(given, params) if is_file else _open_stream(given, params)
    identity = RunIdentity.of_live(summary, decision, place)
    output = params.output
    record = RunRecord(output.record, identity, params.resume, output.lines)
    before = record.results()
    device = choose_device(params.device)
    nproc = 1 if device == "cuda" else count_processes(params.mp.nproc, _MOST_THREADS)
    run = LiveRun(
        source,
        model,
        device,
        decision,
        nproc,
        max_bytes=1e9 * params.stream.queue,
        wait=params.stream.when_full == "wait",
        before={i: image.name for i, image in record.done.items()},
    )
    account = Account(given, before)
    session = Session(source, run, record, account, summary, decision, params, citation)
    return session, model


def _open_file(given: str, params: Parameters) -> FileSource:
    if params.reference_geometry is not None:
        raise ValueError(
            "reference_geometry is for streams; images in files have their own geometry"
        )
    return FileSource(given, params.idle_time, params.mask)


def _open_stream(given: str, params: Parameters) -> StreamSource:
    reference = None
    if params.reference_geometry is not None:
        reference = Reference(params.reference_geometry, params.mask)
    elif params.mask is not None:
        raise ValueError("mask needs reference_geometry, with the detector it is for")
    stream = params.stream
    socket = open_socket(given, stream.listen, stream.allow_remote)
    return StreamSource(socket, params.idle_time, reference)
