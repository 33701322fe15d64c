from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from dials_cnn_screen.models.model_file import load_model
from dials_cnn_screen.simulation.experiments import EXPERIMENTS
from dials_cnn_screen.studies import networks as module
from dials_cnn_screen.studies.networks import (
    feature_vectors,
    train_network,
    train_networks,
)
from dials_cnn_screen.util.threads import use_threads


def test_a_network_is_trained_once(study, monkeypatch):
    trained = train_network(study, "Rayonix + LG36", "linear", 20)
    assert trained.model.name == "Rayonix-LG36-linear-20.safetensors"
    model = load_model(trained.model)
    assert model.preparation.contrast == "linear"
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

    def interrupted(*arguments):
        checkpoint = arguments[6]
        save = type(checkpoint).save

        def save_and_stop(self, state):
            save(self, state)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(type(checkpoint), "save", save_and_stop)
            return usual(*arguments)

    monkeypatch.setattr(module, "train_one", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_network(study, "L498")
    assert (study.folder / "L498-lcn.checkpoint").is_file()
    monkeypatch.setattr(module, "train_one", usual)
    trained = train_network(study, "L498")
    assert trained.history == unbroken.history
    np.testing.assert_array_equal(trained.p["LO19"], unbroken.p["LO19"])


def test_several_at_once_are_as_one_by_one(study, tmp_path, monkeypatch, forked):
    forked(module)
    wanted = [("LO19", "lcn", None), ("Rayonix", "none", None), ("LG36", "lcn", 20)]
    side_by_side = replace(study, folder=tmp_path / "side_by_side")
    side_by_side.folder.mkdir()
    train_network(side_by_side, *wanted[0])
    train_networks(side_by_side, wanted, 2)
    threads = torch.get_num_threads()
    monkeypatch.setattr(module, "keep_freed_memory", lambda: None)
    try:
        train_networks(study, wanted, 1)
    finally:
        use_threads(threads)
    monkeypatch.setattr(module, "train_one", None)
    for one in wanted:
        found, expected = (train_network(x, *one) for x in (side_by_side, study))
        assert found.history == expected.history
        np.testing.assert_array_equal(found.p["LN83"], expected.p["LN83"])


def test_features_are_those_of_the_test_shots(study):
    trained = train_network(study, "LG36")
    features = feature_vectors(study, trained, "LG36")
    network = load_model(trained.model).network
    assert features.shape == (6, network.config.n_features)
    batch = study.shots.data["lcn"].batch(study.shots.splits["LG36"].test[-1:])
    expected = network.features(batch).flatten().detach().numpy()
    np.testing.assert_allclose(features[-1], expected, rtol=1e-5)
