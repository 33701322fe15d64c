from __future__ import annotations

import dataclasses
import json
import os
import pickle
import struct

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from dials_cnn_screen.ke2018.architecture import FV5080
from dials_cnn_screen.models import model_file
from dials_cnn_screen.models.model import Calibration, Model
from dials_cnn_screen.models.model_file import load_model, save_model
from dials_cnn_screen.spots.architecture import SPOTS
from dials_cnn_screen.spots.out_of_distribution import fit_out_of_distribution

SIZE = 48


@pytest.fixture
def model():
    torch.manual_seed(0)
    network = FV5080.network(size=SIZE)
    network(torch.randn(4, 1, SIZE, SIZE))  # gives normalisation something to store
    return Model(
        name="test",
        network=network,
        architecture="fv5080",
        preparation=FV5080.preparation(binning=3, size=SIZE, contrast="linear"),
        calibration=Calibration(1.7, np.array([0.9, 0.3, 1 - 1e-12]), "40 images"),
        trained_on="60 images",
        provenance={"program": "test", "seed": 3, "losses": [0.5, 0.25]},
    )


@pytest.fixture
def path(tmp_path, model):
    save_model(tmp_path / "model.safetensors", model)
    return tmp_path / "model.safetensors"


def test_shares_of_the_classes(path, model):
    """Files without them have none."""
    assert load_model(path).calibration.shares is None
    rewrite(path, shares=None)
    assert load_model(path).calibration.shares is None
    shares = (0.25, 0.25, 0.5)
    calibration = dataclasses.replace(model.calibration, shares=shares)
    save_model(path, dataclasses.replace(model, calibration=calibration))
    assert load_model(path).calibration.shares == shares


@pytest.mark.parametrize("shares", ["[0.5, 0.5]", "[0, 0.5, 0.5]"])
def test_shares_that_are_none(path, shares):
    rewrite(path, shares=shares)
    with pytest.raises(ValueError, match="its shares of classes are"):
        load_model(path)


def read_metadata(path):
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length])["__metadata__"]


def rewrite(path, tensors=None, **metadata):
    """Replace tensors and metadata of a model file; None leaves one out."""
    new_metadata = {**read_metadata(path), **metadata}
    new_tensors = {**load_file(path), **(tensors or {})}
    save_file(
        {name: x for name, x in new_tensors.items() if x is not None},
        path,
        {name: x for name, x in new_metadata.items() if x is not None},
    )


def assert_refused(path, message):
    with pytest.raises(ValueError, match=message) as refusal:
        load_model(path)
    text = str(refusal.value)
    assert str(path) in text
    assert "\n" not in text


def test_round_trip_is_exact(model, path):
    loaded = load_model(path)
    weights, stored = loaded.network.state_dict(), model.network.state_dict()
    assert weights.keys() == stored.keys()
    for name in weights:
        assert weights[name].dtype == stored[name].dtype
        assert torch.equal(weights[name], stored[name])
    assert loaded.network.config == model.network.config
    assert not loaded.network.training
    for name in ("name", "architecture", "preparation", "trained_on", "provenance"):
        assert getattr(loaded, name) == getattr(model, name)
    assert loaded.calibration.temperature == 1.7
    assert loaded.calibration.hit_scores.tolist() == [0.3, 0.9, 1 - 1e-12]
    assert loaded.calibration.source == "40 images"
    assert loaded.sha256 == model.sha256


def test_logits_are_the_same(model, path):
    images = torch.randn(2, 1, SIZE, SIZE)
    with torch.no_grad():
        expected = model.network.eval()(images)
        assert torch.equal(load_model(path).network(images), expected)


def test_written_again_it_is_the_same(path, tmp_path):
    save_model(tmp_path / "again.safetensors", load_model(path))
    first, again = load_file(path), load_file(tmp_path / "again.safetensors")
    assert first.keys() == again.keys()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert read_metadata(path) == read_metadata(tmp_path / "again.safetensors")


def test_the_file_says_what_it_is(path):
    metadata = read_metadata(path)
    assert metadata["format"] == "dials_cnn_screen.model"
    assert metadata["format_version"] == "1"
    assert metadata["written_by"].startswith("dials_cnn_screen ")
    assert json.loads(metadata["labels"]) == ["HIT", "MAYBE", "MISS"]


def test_without_calibration(model, tmp_path):
    path = tmp_path / "model.safetensors"
    save_model(path, dataclasses.replace(model, calibration=Calibration()))
    calibration = load_model(path).calibration
    assert calibration.temperature == 1
    assert calibration.hit_scores.shape == (0,)


def test_a_whole_number_is_a_temperature(path):
    rewrite(path, temperature="2")
    assert load_model(path).calibration.temperature == 2


def test_identity_is_by_content(model, path, tmp_path):
    same = dataclasses.replace(model, name="other", provenance={}, trained_on="then")
    assert same.sha256 == model.sha256
    # As the calibration's hits are sorted in the file.
    save_model(tmp_path / "again.safetensors", same)
    assert load_model(tmp_path / "again.safetensors").sha256 == model.sha256
    changed = [
        dataclasses.replace(model, calibration=Calibration(1.8)),
        dataclasses.replace(
            model, preparation=FV5080.preparation(binning=2, size=SIZE)
        ),
        load_model(path),
    ]
    with torch.no_grad():
        changed[2].network.classifier.bias[0] += 1e-6
    assert len({model.sha256, *(m.sha256 for m in changed)}) == 4


def test_identity_of_the_packages_models_is_known():
    # What calibration files of users name; it changes with the models alone.
    assert load_model("default").sha256.startswith("0687703dc65a9b7c")


def of_features(n_features):
    features = np.random.default_rng(0).normal(size=(200, n_features))
    return fit_out_of_distribution(features)


@pytest.fixture
def spot_path(tmp_path):
    """A file of a model of spots, with its out-of-distribution model."""
    torch.manual_seed(0)
    network = SPOTS.network()
    model = Model(
        name="test",
        network=network,
        architecture="spots",
        preparation=SPOTS.preparation(),
        calibration=Calibration(),
        trained_on="60 images",
        provenance={},
        out_of_distribution=of_features(SPOTS.n_features(network)),
    )
    save_model(tmp_path / "spots.safetensors", model)
    return tmp_path / "spots.safetensors"


def test_out_of_distribution_is_kept(spot_path, tmp_path):
    loaded = load_model(spot_path).out_of_distribution
    save_model(tmp_path / "again.safetensors", load_model(spot_path))
    again = load_model(tmp_path / "again.safetensors").out_of_distribution
    for name, value in vars(of_features(loaded.location.size)).items():
        np.testing.assert_array_equal(getattr(loaded, name), value)
        np.testing.assert_array_equal(getattr(again, name), value)


def test_without_out_of_distribution(path, spot_path):
    assert load_model(path).out_of_distribution is None
    tensors = ("location", "whitening", "limit")
    rewrite(spot_path, {f"out_of_distribution.{name}": None for name in tensors})
    assert load_model(spot_path).out_of_distribution is None


def test_files_of_the_first_version_are_read(spot_path):
    before = load_model(spot_path)
    tensors = load_file(spot_path)
    old = {"location": "mean", "whitening": "whitening", "limit": "limit"}
    changes = {f"out_of_distribution.{name}": None for name in old}
    changes |= {
        f"familiarity.{o}": tensors[f"out_of_distribution.{n}"] for n, o in old.items()
    }
    rewrite(spot_path, changes)
    assert load_model(spot_path).sha256 == before.sha256


def double(*shape, value=1.0):
    return torch.full(shape, value, dtype=torch.float64)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"location": None}, 'damaged: it has "out_of_distribution.limit"'),
        ({"limit": None}, "is damaged: it has no 'out_of_distribution.limit'"),
        ({"location": double(5)}, "of 5 features, its network has"),
        ({"whitening": double(5, 6)}, r"a whitening \(5, 6\)"),
        ({"limit": double(2)}, "safetensors': "),
        ({"limit": double(value=-1.0)}, "limit=-1.0, not over 0"),
    ],
)
def test_wrong_out_of_distribution(spot_path, tensors, message):
    rewrite(spot_path, {f"out_of_distribution.{k}": v for k, v in tensors.items()})
    assert_refused(spot_path, message)


def test_out_of_distribution_of_another_network(path):
    names = {"location": double(4), "limit": double(), "whitening": double(4, 4)}
    rewrite(path, {f"out_of_distribution.{k}": v for k, v in names.items()})
    assert_refused(path, "of 4 features, its network has 32")


def test_an_error_in_writing_leaves_the_old_file(model, path):
    before = path.read_bytes()
    with pytest.raises(TypeError, match="not JSON serializable"):
        save_model(path, dataclasses.replace(model, provenance={"x": object()}))
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_default_is_the_packages_own(path, monkeypatch):
    monkeypatch.setattr(model_file, "packaged_models", lambda: {"default": path})
    assert load_model().name == load_model("default").name == "test"


def test_models_of_the_package():
    assert {"default", "ke2018"} <= set(model_file.packaged_models())
    for name in model_file.packaged_models():
        model = load_model(name)
        assert model.name == name
        assert len(model.calibration.hit_scores) > 100


# Files that are no models


def test_no_file(tmp_path):
    message = "none' is not a file; give a file of dials.cnn_train, or one of default"
    assert_refused(tmp_path / "none", message)


def test_a_folder(tmp_path):
    assert_refused(tmp_path, "is not a file")


@pytest.mark.parametrize("length", [0, 7, 100, -1])
def test_truncated(path, length):
    path.write_bytes(path.read_bytes()[:length])
    assert_refused(path, "not a model file, or a damaged one .*dials.cnn_train")


def test_random_bytes(path):
    path.write_bytes(np.random.default_rng(0).bytes(5000))
    assert_refused(path, "not a model file, or a damaged one")


def test_a_text(path):
    path.write_text("r0027_2000.h5 [1] MISS\n" * 50)
    assert_refused(path, "not a model file, or a damaged one")


class Trap:
    """Unpickling it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_a_pickle_is_not_run(path, tmp_path):
    trap = Trap(str(tmp_path / "trapped"))
    path.write_bytes(pickle.dumps(trap))
    assert_refused(path, "not a model file, or a damaged one")
    torch.save({"weights": trap}, path)
    assert_refused(path, "not a model file, or a damaged one")
    assert not (tmp_path / "trapped").exists()


def test_a_very_large_file_is_not_read(path):
    with open(path, "ab") as file:
        file.truncate(257 * 2**20)  # takes no space on the disk
    assert_refused(path, "is over 256 MiB: not a model")


def test_another_safetensors_file(path):
    save_file({"weight": torch.zeros(3)}, path)
    assert_refused(path, "a safetensors file, but not one of dials.cnn_train")


def test_a_file_that_may_not_be_read(path, monkeypatch):
    def refuse(_path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(model_file, "_read", refuse)
    assert_refused(path, "can't be read: Permission denied")


# Models that are not right


def configuration(**changes):
    values = {"size": SIZE, "channels": [4, 8, 16, 32], "first_kernel": 7}
    return json.dumps({**values, "first_pool": 3, **changes})


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"format_version": "2"}, "of version 2, and this program reads version 1"),
        ({"trained_on": "x" * 10**5}, "its trained_on is a text of 100000 characters"),
        ({"name": "x" * 1001}, "damaged: its name is a text of 1001 characters"),
        ({"labels": '["MISS", "MAYBE", "HIT"]'}, "its classes are"),
        ({"architecture": "resnet"}, "'resnet' is not one of spots, ke2018, fv5080"),
        ({"architecture": None}, "is damaged: it has no 'architecture'"),
        ({"preprocessing": None}, "is damaged: it has no 'preprocessing'"),
        ({"format_version": None}, "is damaged: it has no 'format_version'"),
        ({"preprocessing": "{"}, "safetensors': "),
        ({"preprocessing": '{"zoom": 2}'}, "is damaged: .*zoom"),
        ({"preprocessing": '{"contrast": "log"}'}, "contrast 'log' is not one of"),
        (
            {"preprocessing": '{"size": 50}'},
            "takes 48 bins, its preprocessing gives 50",
        ),
        ({"configuration": "[]"}, "is damaged: "),
        ({"configuration": configuration(depth=5)}, "is damaged: .*depth"),
        ({"configuration": configuration(channels=5)}, "is damaged: "),
        ({"configuration": configuration(channels=[1024] * 9)}, "9 stages"),
        ({"configuration": configuration(channels=[2**40])}, "not from 1 to 1024"),
        ({"configuration": configuration(first_pool=10**9)}, "not from 1 to 15"),
        ({"configuration": configuration(channels=[2])}, "is damaged: .*"),
        ({"configuration": configuration(first_kernel=3)}, "size mismatch for feat"),
        ({"temperature": "0"}, "its temperature is 0, not from 0 to 100"),
        ({"temperature": "NaN"}, "its temperature is nan"),
        ({"temperature": '"1"'}, "its temperature is 1"),
        ({"temperature": "[" * 5000}, "safetensors'"),
    ],
)
def test_wrong_metadata(path, metadata, message):
    rewrite(path, **metadata)
    assert_refused(path, message)


def test_absurd_sizes_take_no_memory(path):
    rewrite(
        path,
        configuration=configuration(size=8192, channels=[1024]),
        preprocessing='{"size": 8192}',
    )
    assert_refused(path, "features are more than 65536")


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"classifier.weight": torch.zeros(3, 2)}, "size mismatch for classifier.w"),
        ({"classifier.bias": None}, 'Missing key.*"classifier.bias"'),
        ({"extra": torch.zeros(1)}, 'Unexpected key.*"extra"'),
        ({"calibration.hit_scores": None}, "it has no 'calibration.hit_scores'"),
        ({"calibration.hit_scores": torch.zeros(2, 2)}, "not a list of probabilities"),
        ({"calibration.hit_scores": torch.tensor([0.5, 1.5])}, "not a list of prob"),
        ({"calibration.hit_scores": torch.tensor([torch.nan])}, "not a list of prob"),
        ({"calibration.sure_scores": torch.tensor([2.0])}, "not a list of prob"),
        ({"simulated_hits.significance": torch.zeros(2)}, "no 'simulated_hits.p_spot'"),
    ],
)
def test_wrong_tensors(path, tensors, message):
    rewrite(path, tensors)
    assert_refused(path, message)
