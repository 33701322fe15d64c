from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dials_cnn_screen.model_file import load_model
from dials_cnn_screen.simulation.experiments import EXPERIMENTS
from dials_cnn_screen.studies import networks as module
from dials_cnn_screen.studies.networks import feature_vectors, train_network


def test_a_network_is_trained_once(study, monkeypatch):
    trained = train_network(study, "Rayonix + LG36", "linear", 20)
    assert trained.model.name == "Rayonix-LG36-linear-20.safetensors"
    model = load_model(trained.model)
    assert model.preprocessing.contrast == "linear"
    assert "labelled images of LO19, LN83, LN84" in model.trained_on
    assert [epoch.epoch for epoch in trained.history] == [1, 2]
    assert trained.p.keys() == EXPERIMENTS.keys()
    for p in trained.p.values():
        assert p.shape == (6, 3)
        np.testing.assert_allclose(p.sum(axis=1), 1)
    assert not list(study.folder.glob("*.checkpoint"))
    monkeypatch.setattr(module, "train_one", None)
    again = train_network(study, "Rayonix + LG36", "linear", 20)
    assert again.history == trained.history
    np.testing.assert_array_equal(again.p["L498"], trained.p["L498"])


def test_an_interrupted_training_goes_on(study, tmp_path, monkeypatch):
    (tmp_path / "unbroken").mkdir()
    unbroken = train_network(replace(study, folder=tmp_path / "unbroken"), "L498")
    usual = module.train_one

    def interrupted(title, data, parts, begin, changes, device, checkpoint):
        save = type(checkpoint).save

        def save_and_stop(self, state):
            save(self, state)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(type(checkpoint), "save", save_and_stop)
            return usual(title, data, parts, begin, changes, device, checkpoint)

    monkeypatch.setattr(module, "train_one", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_network(study, "L498")
    assert (study.folder / "L498-lcn.checkpoint").is_file()
    monkeypatch.setattr(module, "train_one", usual)
    trained = train_network(study, "L498")
    assert trained.history == unbroken.history
    np.testing.assert_array_equal(trained.p["LO19"], unbroken.p["LO19"])


def test_features_are_those_of_the_test_shots(study):
    trained = train_network(study, "LG36")
    features = feature_vectors(study, trained, "LG36")
    network = load_model(trained.model).network
    assert features.shape == (6, network.config.n_features)
    batch = study.shots.data["lcn"].batch(study.shots.parts["LG36"].test[-1:])
    expected = network.features(batch).flatten().detach().numpy()
    np.testing.assert_allclose(features[-1], expected, rtol=1e-5)
