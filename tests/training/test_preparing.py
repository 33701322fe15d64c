from __future__ import annotations

import shutil

import numpy as np
import pytest

pytest.importorskip("dials")

from dxtbx.model.experiment_list import ExperimentListFactory

from dials_cnn_screen.images.read import read_frame
from dials_cnn_screen.images.source import Source
from dials_cnn_screen.images.stills import list_stills
from dials_cnn_screen.ke2018.preprocessing import Preprocessing, prepare
from dials_cnn_screen.ke2018.training_set import as_stored, with_margin
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.models.registry import find_architecture
from dials_cnn_screen.spots.candidates import CandidateSearch, find_candidates
from dials_cnn_screen.training.preparing import prepare_stills

pytestmark = pytest.mark.usefixtures("installed_formats")

IMAGES, SEARCH = Preprocessing(size=16), CandidateSearch(most=8)
KE2018, SPOTS = find_architecture("ke2018"), find_architecture("spots")
LABELS = [Label.MISS, *[Label.HIT] * 3]


@pytest.fixture
def stills(tmp_path, write_cxidb76):
    images = np.random.default_rng(0).poisson(20, (4, 80, 80)).astype(np.int32)
    images[1, 30, 20] = images[3, 50:52, 60] = 500
    path = write_cxidb76(tmp_path / "run1.h5", images, kind="Rayonix")
    return list_stills(ExperimentListFactory.from_filenames([str(path)]))


@pytest.fixture
def empty_folder(tmp_path):
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder"


@pytest.mark.parametrize("nproc", [1, 2])
def test_images(stills, empty_folder, nproc):
    data = prepare_stills(stills, LABELS, KE2018, IMAGES, nproc, empty_folder)
    assert data.labels.tolist() == [2, 0, 0, 0]
    assert data.images.nbytes == 4 * KE2018.training_bytes(IMAGES)
    for image, still in zip(data.images, stills, strict=True):
        frame = read_frame(still.imageset, still.position)
        seen = prepare(frame.data, frame.mask, frame.beam_centre, with_margin(IMAGES))
        np.testing.assert_allclose(image, as_stored(seen), atol=2e-3)
    assert list(empty_folder.iterdir()) == []


@pytest.mark.parametrize("nproc", [1, 2])
def test_candidates(stills, empty_folder, nproc):
    data = prepare_stills(stills, LABELS, SPOTS, SEARCH, nproc, empty_folder)
    assert data.labels.tolist() == [2, 0, 0, 0]
    assert data.patches.nbytes == 4 * SPOTS.training_bytes(SEARCH)
    assert np.isnan(data.truth).all()
    for i, still in enumerate(stills):
        frame = read_frame(still.imageset, still.position)
        found = find_candidates(frame.data, frame.mask, frame.beam_centre, SEARCH)
        assert data.present[i].sum() == len(found.z)
        np.testing.assert_allclose(
            np.sinh(data.scalars[i, : len(found.z), 0]), found.z, rtol=1e-3
        )
    assert data.scalars[1, 0, 0] > np.arcsinh(40)


@pytest.mark.parametrize("nproc", [1, 2])
def test_unreadable_image_is_named(stills, empty_folder, monkeypatch, nproc):
    read = Source.read

    def fail(source, still):
        if still.name.number == 3:
            raise RuntimeError("no such byte")
        return read(source, still)

    monkeypatch.setattr(Source, "read", fail)
    with pytest.raises(ValueError, match=r"run1.h5 \[3\] can't be used: no such byte;"):
        prepare_stills(stills, LABELS, SPOTS, SEARCH, nproc, empty_folder)


def test_full_disk_is_said_before(stills, empty_folder, monkeypatch):
    usage = shutil.disk_usage(empty_folder)._replace(free=4 * 65_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: usage)
    with pytest.raises(ValueError, match=r"need 0\.\d GB in .*folder', and 0.0 GB are"):
        prepare_stills(stills, LABELS, KE2018, IMAGES, 1, empty_folder)
