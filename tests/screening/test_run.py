from __future__ import annotations

import dataclasses
import pickle
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("dials")

import torch
from dxtbx import flumpy
from dxtbx.imageset import ImageSet, ImageSetData, MemReader
from dxtbx.model import BeamFactory, DetectorFactory

from dials_cnn_screen.images.frame import Frame, check_frame
from dials_cnn_screen.ke2018 import preprocessing_cpu
from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.models.model_file import load_model
from dials_cnn_screen.screening import run as screening
from dials_cnn_screen.screening.decision import Decision, KeptBecause
from dials_cnn_screen.screening.run import (
    choose_device,
    make_screener,
    screen,
    screen_still,
)
from dials_cnn_screen.spots.architecture import (
    SpotArchitecture,
    SpotPipeline,
    network_on_device,
)
from dials_cnn_screen.spots.candidates import CandidateSearch
from dials_cnn_screen.spots.network import SpotOutput
from dials_cnn_screen.spots.out_of_distribution import OutOfDistribution

DECISION = Decision()


def frame(value: float, mask: object = True) -> Frame:
    data = np.full((80, 80), value, np.float32)
    data[::2, ::2] += 1
    return Frame(data, np.broadcast_to(mask, data.shape).copy(), (40.0, 40.0))


class Still(SimpleNamespace):
    """Stands for a still: imageset is the frame that is read, or what is raised."""


@pytest.fixture
def stills(monkeypatch):
    def read(source, still):
        if isinstance(still.imageset, Exception):
            raise still.imageset
        return still.imageset

    monkeypatch.setattr(screening.Source, "read", read)

    def make(*contents):
        return [
            Still(imageset=content, position=0, name=ImageName("a.h5", i + 1))
            for i, content in enumerate(contents)
        ]

    return make


@pytest.fixture
def model(level_model):
    return load_model(level_model)


def classify(still, model):
    return screen_still(make_screener(model, "cpu", DECISION), still)


def probabilities(results):
    return [result.prediction.probabilities for result in results]


def test_logits_are_those_of_the_network(model):
    image = np.random.default_rng(0).normal(150, 20, (32, 32)).astype(np.float32)
    with torch.no_grad():
        expected = model.network(torch.from_numpy(image)[None, None])[0].numpy()
    output = model.entry.pipeline(model.network, model.preparation, "cpu").run(image)
    assert output.logits.shape == (3,)
    np.testing.assert_allclose(output.logits, expected, rtol=1e-4)
    # The logits are what the last layer makes of the features.
    layer = model.network.classifier
    again = layer(torch.from_numpy(output.features.copy())).detach().numpy()
    np.testing.assert_allclose(output.logits, again, rtol=1e-4)
    assert output.spots is None


class EverySecond(torch.nn.Module):
    """In place of a SpotNetwork: the first, third, fifth ... candidate is a spot."""

    def forward(self, batch):
        logits = torch.where(torch.arange(batch.present.shape[1]) % 2 == 0, 1.0, -1.0)
        return SpotOutput(torch.zeros(1, 3), logits[None], torch.zeros(1, 5))


@pytest.fixture
def spot_model(model, monkeypatch):
    def pipeline(_, network, search, device):
        return SpotPipeline(search, network_on_device(network, device))

    monkeypatch.setattr(SpotArchitecture, "pipeline", pipeline)
    return dataclasses.replace(
        model,
        network=EverySecond(),
        architecture="spots",
        preparation=CandidateSearch(most=3),
    )


def test_spots_are_places_on_the_frame(spot_model, stills):
    image = frame(9)
    image.data[30, 50], image.data[60, 20], image.data[20, 70] = 900, 700, 500
    (still,) = stills(image)
    result = classify(still, spot_model)
    assert result.prediction.spots.tolist() == [[30, 50], [20, 70]]


def test_out_of_distribution(spot_model, stills):
    # The features are 0: five deviations of 0.1 from the mean, at a limit of 2.
    near = OutOfDistribution(np.full(5, 0.5), 10 * np.eye(5) / np.sqrt(5), 2.0)
    (still,) = stills(frame(9))
    plain = classify(still, spot_model).prediction
    assert plain.ood_score is plain.out_of_distribution is None
    model = dataclasses.replace(spot_model, out_of_distribution=near)
    result = classify(still, model)
    assert result.prediction.ood_score == pytest.approx(2.5)
    assert result.out_of_distribution is True
    assert result.kept_because is KeptBecause.OUT_OF_DISTRIBUTION
    far = dataclasses.replace(near, limit=6.0)
    model = dataclasses.replace(spot_model, out_of_distribution=far)
    assert classify(still, model).out_of_distribution is False


def test_frame_without_candidates_has_no_spots(spot_model, stills):
    (still,) = stills(frame(9))
    assert classify(still, spot_model).prediction.spots.shape == (0, 2)


def test_output_that_is_not_finite_is_an_error(model, stills):
    broken = pickle.loads(pickle.dumps(model))
    with torch.no_grad():
        broken.network.classifier.bias[1] = torch.nan
    (still,) = stills(frame(250))
    result = classify(still, broken)
    assert result.prediction is result.label is None
    assert result.error == "the network's output is not finite"
    assert result.kept_because is KeptBecause.ERROR


def test_probabilities_add_up_and_have_the_temperature(model, stills):
    (still,) = stills(frame(130))
    hot = pickle.loads(pickle.dumps(model))
    object.__setattr__(hot.calibration, "temperature", 10.0)
    p = classify(still, model).prediction.probabilities
    q = classify(still, hot).prediction.probabilities
    assert p.sum() == pytest.approx(1)
    assert q.sum() == pytest.approx(1)
    np.testing.assert_allclose(
        np.log(q / q[2]), np.log(p / p[2]) / 10, rtol=1e-6, atol=1e-9
    )


@pytest.mark.parametrize(
    ("problem", "error"),
    [
        (OSError("cannot\n  read  it"), "cannot read it"),
        (RuntimeError(), "RuntimeError"),
        (KeyError("image"), "KeyError: 'image'"),
        (frame(9, mask=False), "every pixel is masked or outside the trusted range"),
        (
            Frame(np.full((9, 9), 5.0), np.ones((9, 9), bool), (4, 4)),
            "every usable pixel has the same value, 5",
        ),
    ],
)
def test_errors_become_part_of_the_result(model, stills, problem, error):
    listed = stills(frame(50), problem, frame(250))
    results = list(screen(listed, model, "cpu", DECISION, 1))
    assert [r.error for r in results] == [None, error, None]
    assert results[1].prediction is None
    assert [r.label for r in results] == [Label.MISS, None, Label.HIT]
    assert [r.kept for r in results] == [False, True, True]
    assert [r.name.number for r in results] == [1, 2, 3]
    assert all(len(r.seconds) == 3 and min(r.seconds) >= 0 for r in results)


def test_pixels_that_are_not_finite(model):
    class Image:
        def get_raw_data(self):
            data = frame(250).data.astype(float)
            data[20:25, 30:60] = np.nan
            data[50, 50] = np.inf
            return (flumpy.from_numpy(data),)

    imageset = ImageSet(ImageSetData(MemReader([Image()]), None))
    imageset.set_beam(BeamFactory.simple(1.0), 0)
    detector = DetectorFactory.simple(
        "SENSOR_CCD", 100, (4, 4), "+x", "-y", (0.1, 0.1), (80, 80), (-1e9, 1e9), []
    )
    imageset.set_detector(detector, 0)
    still = Still(imageset=imageset, position=0, name=ImageName("a.h5", 1))
    result = classify(still, model)
    assert result.error is None
    assert np.isfinite(result.prediction.probabilities).all()
    assert result.label is Label.HIT


def test_one_pixel_that_differs_is_enough():
    image = frame(9)
    image.data[:] = 9
    image.data[3, 3] = 10
    check_frame(image)


@pytest.mark.parametrize("n_stills", [1, 2, 5, 70])
def test_order_on_two_processes(model, stills, n_stills):
    levels = np.linspace(60, 260, n_stills)
    listed = stills(*map(frame, levels))
    one = probabilities(screen(listed, model, "cpu", DECISION, 1))
    two = probabilities(screen(listed, model, "cpu", DECISION, 2))
    np.testing.assert_array_equal(one, two)
    if n_stills > 1:
        assert (np.diff([p[0] for p in two]) > 0).all()


def test_kernel_is_compiled_before_the_first_still(model):
    make_screener(model, "cpu", DECISION)
    # For the types of a frame: another compilation would show in the signatures.
    compiled = list(preprocessing_cpu._bin_by_two.signatures)
    shot = frame(9)
    preprocessing_cpu.prepare(shot.data, shot.mask, shot.beam_centre, model.preparation)
    assert list(preprocessing_cpu._bin_by_two.signatures) == compiled


@pytest.mark.parametrize("nproc", [1, 2])
def test_stopping_half_way(model, stills, nproc):
    listed = stills(*map(frame, range(60, 90)))
    results = screen(listed, model, "cpu", DECISION, nproc)
    assert next(results).error is None
    results.close()
    with pytest.raises(StopIteration):
        next(results)


def test_device():
    there = torch.cuda.is_available()
    assert choose_device("cpu") == "cpu"
    assert choose_device("auto") == ("cuda" if there else "cpu")
    if not there:
        with pytest.raises(ValueError, match="torch finds no GPU; set device=cpu"):
            choose_device("cuda")


@pytest.mark.gpu
def test_gpu_gives_the_same(model, stills):
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    listed = stills(*map(frame, range(60, 260, 10)))
    on_cpu = probabilities(screen(listed, model, "cpu", DECISION, 1))
    on_gpu = probabilities(screen(listed, model, "cuda", DECISION, 1))
    np.testing.assert_allclose(on_gpu, on_cpu, atol=1e-4)


def test_error_on_one_mpi_rank_ends_all(mpirun):
    code = (
        "from dials_cnn_screen.util.mpi import mpi_world\n"
        "world = mpi_world()\n"
        "if world.rank == 1: raise ValueError('no model on this machine')\n"
        "world.gather(1, root=0)\n"
        "print('all there')"
    )
    done = mpirun(2, code)
    assert done.returncode
    assert "no model on this machine" in done.stderr
    assert "all there" not in done.stdout
