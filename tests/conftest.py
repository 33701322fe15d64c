"""Fixtures shared by several tests: files of known content in known layouts."""

from __future__ import annotations

import logging
import math
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import written_files

# Where there is no GPU Triton interprets its kernels. It decides when it is imported.
if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture(autouse=True)
def earlier_processes_have_ended() -> None:
    """Wait for the processes of a run that an earlier test stopped.

    Until then a thread of concurrent.futures looks after them, and a process with
    threads is not forked; a process that is begun anew can't import functions of tests.
    """
    for thread in threading.enumerate():
        if type(thread).__name__ == "_ExecutorManagerThread":
            thread.join(60)


@pytest.fixture
def write_cxidb76():
    """The function write(path, images, *, kind="CSPAD"|"Rayonix", ...) -> path."""
    return written_files.write_cxidb76


@pytest.fixture
def write_nxmx():
    """The function write(path, images, *, bit_depth=..., pixel_mask=...) -> path."""
    return written_files.write_nxmx


@pytest.fixture
def real_images() -> Path:
    """The folder of real detector images, which is beside the checkout or missing."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "real_images"
    if not folder.is_dir():
        pytest.skip(f"no real images in {folder}")
    return folder


@pytest.fixture
def installed_formats() -> None:
    """Skip unless dxtbx sees the format classes, that is unless they are installed."""
    names = {e.name.split(":")[0] for e in metadata.entry_points(group="dxtbx.format")}
    if "FormatHDF5CXIDB76" not in names:
        pytest.skip("dials_cnn_screen is not installed: no dxtbx.format entry point")


@pytest.fixture
def write_levels():
    """The function write(path, levels, ...) -> path: a file for level_model."""
    return written_files.write_levels


@pytest.fixture
def count_reads(monkeypatch) -> Callable[[Any], list]:
    """The function count_reads(imageset): a list that grows as dxtbx reads its format.

    It gets the arguments of get_raw_data.
    """

    def count_reads(imageset: Any) -> list:
        mro, reads = imageset.get_format_class().__mro__, []
        format_class = next(c for c in mro if "get_raw_data" in vars(c))
        get_raw_data = format_class.get_raw_data

        def note(instance: Any, *args: int) -> Any:
            reads.append(args)
            return get_raw_data(instance, *args)

        monkeypatch.setattr(format_class, "get_raw_data", note)
        return reads

    return count_reads


@pytest.fixture(scope="session")
def level_model(tmp_path_factory) -> Path:
    """A model file whose answer is known: the class goes by the mean level of a frame.

    With f the mean of what write_levels wrote, 0.5 above the level: z(Hit) =
    0.2 f - 30, z(Maybe) = 0.1 f - 10, z(Miss) = 0. So Miss is below 100, Maybe from
    there to 200, Hit above. It has 199 calibration hits at 0.005, 0.010, ... 0.995.
    """
    import torch

    from dials_cnn_screen.ke2018.architecture import KE2018
    from dials_cnn_screen.models.model import Calibration, Model
    from dials_cnn_screen.models.model_file import save_model

    network = KE2018.network(size=32, channels=(1,))
    with torch.no_grad():
        convolution, normalisation = network.features[:2]
        for parameter in (*convolution.parameters(), normalisation.bias):
            parameter.zero_()
        convolution.weight[0, 0, 1, 1] = 1
        normalisation.weight.fill_(1)
        weights = torch.tensor([[0.2], [0.1], [0.0]]) / network.classifier.in_features
        network.classifier.weight[:] = weights
        network.classifier.bias[:] = torch.tensor([-30.0, -10.0, 0.0])
    path = tmp_path_factory.mktemp("model") / "level.safetensors"
    model = Model(
        name="level",
        network=network,
        architecture="ke2018",
        preparation=KE2018.preparation(size=32, contrast="none"),
        calibration=Calibration(1.0, np.linspace(0, 1, 201)[1:-1], "a ramp"),
        trained_on="nothing",
        provenance={},
    )
    save_model(path, model)
    return path


@pytest.fixture(scope="session")
def spot_model(tmp_path_factory) -> Path:
    """A model file by which what stands out by 15 deviations is a spot; a Hit always.

    It takes the 16 strongest.
    """
    import torch

    from dials_cnn_screen.models.model import Calibration, Model
    from dials_cnn_screen.models.model_file import save_model
    from dials_cnn_screen.spots.architecture import SPOTS

    network = SPOTS.network()
    with torch.no_grad():
        for layer in (network.code[1], network.spot[0], network.spot[-1]):
            layer.weight.zero_()
            layer.bias.zero_()
        # The first number of a candidate, asinh(z), goes through as it is.
        network.code[1].weight[0, network.config.patch] = 1
        network.spot[0].weight[0, 0] = 1
        network.spot[-1].weight[0, 0] = 1
        network.spot[-1].bias[:] = -math.asinh(15)
        for layer in (network.count[-1], network.head[-1]):
            layer.weight.zero_()
            layer.bias.zero_()
        network.count[-1].bias[:] = torch.tensor([2.0, 0, 0])
    path = tmp_path_factory.mktemp("model") / "spots.safetensors"
    model = Model(
        name="spots",
        network=network,
        architecture="spots",
        preparation=SPOTS.preparation(most=16),
        calibration=Calibration(),
        trained_on="nothing",
        provenance={},
    )
    save_model(path, model)
    return path


@pytest.fixture(scope="session")
def triton_device() -> str:
    """Where Triton's kernels run: on the GPU, or interpreted on the CPU."""
    pytest.importorskip("triton")
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if os.environ.get("TRITON_INTERPRET") != "1":
        pytest.skip("no CUDA, and TRITON_INTERPRET is not 1")
    return "cpu"


@pytest.fixture
def browse(tmp_path):
    """Function browse(page, picture, height): open a page as a user does.

    Writes a picture of it, 1200 pixels wide, and gives what was asked for from outside,
    but for what the browser itself asks of its maker.
    """
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium to render the page with")

    def browse(page: Path, picture: Path, height: int) -> list[str]:
        log = tmp_path / "requests.json"
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu"]
        command += ["--disable-quic", "--no-first-run", "--disable-sync"]
        command += ["--disable-background-networking", "--disable-component-update"]
        command += [f"--user-data-dir={tmp_path / 'browser'}", f"--log-net-log={log}"]
        command += ["--hide-scrollbars", f"--window-size=1200,{height}"]
        command += [f"--screenshot={picture}", str(page)]
        subprocess.run(command, capture_output=True, timeout=60, check=True)
        asked = set(
            re.findall(r'"url":"(?:https?|wss?|ftp)://([^/"]+)', log.read_text())
        )
        makers = ("google.com", "googleapis.com")
        return sorted(host for host in asked if not host.endswith(makers))

    return browse


@pytest.fixture
def own_logging() -> Iterator[None]:
    """Take away the handlers that a program adds to DIALS's loggers."""
    loggers = [logging.getLogger(n) for n in ("dials", "dxtbx", "xfel", "py.warnings")]
    before = [(logger, logger.handlers[:], logger.level) for logger in loggers]
    yield
    logging.captureWarnings(False)
    for logger, handlers, level in before:
        for handler in set(logger.handlers) - set(handlers):
            logger.removeHandler(handler)
            handler.close()
        logger.setLevel(level)


@pytest.fixture
def in_tmp_path(tmp_path, monkeypatch, own_logging) -> Path:
    """An empty folder to run a program in: the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def mpirun() -> Callable[..., subprocess.CompletedProcess]:
    """The function mpirun(n, code, *args): Python code on n ranks, to its end."""
    pytest.importorskip("mpi4py")
    if not shutil.which("mpirun"):
        pytest.skip("no mpirun")

    def mpirun(n: int, code: str, *args: str) -> subprocess.CompletedProcess:
        program = ["mpirun", "--oversubscribe", "-n", str(n), sys.executable, "-c"]
        return subprocess.run(
            [*program, code, *args],
            env={
                **os.environ,
                "OMPI_ALLOW_RUN_AS_ROOT": "1",
                "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
            },
            capture_output=True,
            text=True,
            timeout=300,  # ranks may wait for each other for ever
            check=False,
        )

    return mpirun


@pytest.fixture(scope="session")
def made() -> SimpleNamespace:
    """Functions that make small imagesets and experiments, without files.

    still_set(n_images, file=None) and sequence(n_images, width, first=1): imagesets of
    images of 10 x 10 pixels, all of number 0, 1, ... They seem to come from a file
    each, or from one. experiment(imageset, ...): of one of them.
    shared_sequence(first=1): three experiments of one sequence of three stills.
    """
    from dxtbx import flumpy
    from dxtbx.imageset import ImageSequence, ImageSet, ImageSetData, MemReader
    from dxtbx.model import (
        BeamFactory,
        DetectorFactory,
        Experiment,
        ExperimentList,
        GoniometerFactory,
        ScanFactory,
    )

    beam = BeamFactory.simple(1.0)
    detector = DetectorFactory.simple(
        "SENSOR_CCD", 100, (0.5, 0.5), "+x", "-y", (0.1, 0.1), (10, 10), (0, 100), []
    )
    goniometer = GoniometerFactory.single_axis()

    class Image:
        def __init__(self, number):
            self._data = (flumpy.from_numpy(np.full((10, 10), number, np.int32)),)

        def get_raw_data(self):
            return self._data

    class Reader(MemReader):
        def __init__(self, n_images, file=None):
            super().__init__([Image(i) for i in range(n_images)])
            self._file = file

        def copy(self, paths, n_images=None):
            return self

        def paths(self):
            return [self._file or f"image_{i}.cbf" for i in range(len(self))]

        def master_path(self):
            return self._file or ""

        def is_single_file_reader(self):
            return self._file is not None

    def still_set(n_images, file=None):
        imageset = ImageSet(ImageSetData(Reader(n_images, file), None))
        for i in range(n_images):
            imageset.set_beam(beam, i)
            imageset.set_detector(detector, i)
        return imageset

    def sequence(n_images, width, first=1):
        epochs = dict.fromkeys(range(n_images), 0.0)
        images = (first, first + n_images - 1)
        scan = ScanFactory.make_scan(images, 0.1, (0, width), epochs)
        data = ImageSetData(Reader(n_images), None)
        return ImageSequence(data, beam, detector, goniometer, scan)

    def experiment(imageset, **others):
        if isinstance(imageset, ImageSequence):
            others["goniometer"] = goniometer
        return Experiment(beam=beam, detector=detector, imageset=imageset, **others)

    def shared_sequence(first=1):
        stills = sequence(3, 0.0, first)
        scan = stills.get_scan()
        return ExperimentList(
            [
                experiment(stills, scan=scan[i : i + 1], identifier=f"e{i}")
                for i in range(3)
            ]
        )

    return SimpleNamespace(
        still_set=still_set,
        sequence=sequence,
        experiment=experiment,
        shared_sequence=shared_sequence,
    )


@pytest.fixture
def grid_scan(real_images, in_tmp_path):
    """Three stills as one sequence without oscillation, in imported.expt.

    They are numbered from 14.
    """
    from dxtbx.imageset import ImageSetFactory
    from dxtbx.model import ScanFactory
    from dxtbx.model.experiment_list import ExperimentListFactory

    for number in (14, 15, 16):
        shutil.copy(real_images / "thau_3_2_0017.cbf.bz2", f"thau_{number}.cbf.bz2")
    first = ExperimentListFactory.from_filenames(["thau_14.cbf.bz2"])[0]
    times = {i: float(i) for i in range(3)}
    sequence = ImageSetFactory.make_sequence(
        "thau_##.cbf.bz2",
        [14, 15, 16],
        beam=first.beam,
        detector=first.detector,
        goniometer=first.goniometer,
        scan=ScanFactory.make_scan((14, 16), 0.1, (90, 0), times),
    )
    experiments = ExperimentListFactory.from_imageset_and_crystal(sequence, None)
    # As dxtbx has it: an experiment for each image, all with the whole sequence.
    assert [len(experiment.imageset) for experiment in experiments] == [3, 3, 3]
    for i, experiment in enumerate(experiments):
        experiment.identifier = f"grid-{i}"
    experiments.as_file("imported.expt")
    return experiments
