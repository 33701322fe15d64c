from __future__ import annotations

import logging

import numpy as np
import pytest

from dials_cnn_screen.architecture import NetworkOutput
from dials_cnn_screen.models.model_file import load_model
from dials_cnn_screen.models.predictor import compare_pipelines


class Shifted:
    """A pipeline whose logits are off by a constant, as of a faulty kernel."""

    def __init__(self, pipeline, by):
        self.pipeline, self.by = pipeline, by

    def prepare(self, frame):
        return self.pipeline.prepare(frame)

    def run(self, prepared):
        output = self.pipeline.run(prepared)
        shift = np.array([self.by, 0, 0], np.float32)
        return NetworkOutput(output.logits + shift, output.features, output.spots)


class Broken(Shifted):
    def run(self, prepared):
        raise RuntimeError("no kernel image\nis available")


@pytest.fixture
def model():
    return load_model("default")


@pytest.fixture
def pipeline(model):
    return model.entry.pipeline(model.network, model.preparation, "cpu")


def test_pipelines_that_agree(pipeline):
    assert compare_pipelines(pipeline, pipeline) is None
    assert compare_pipelines(Shifted(pipeline, 1e-5), pipeline) is None


def test_pipelines_that_do_not(pipeline):
    assert "probabilities" in compare_pipelines(Shifted(pipeline, 1.0), pipeline)
    assert "probabilities" in compare_pipelines(Shifted(pipeline, np.nan), pipeline)
    assert compare_pipelines(Broken(pipeline, 0), pipeline) == (
        "no kernel image is available"
    )


@pytest.mark.parametrize("faulty", [Shifted, Broken])
def test_a_gpu_that_disagrees_is_not_used(model, pipeline, monkeypatch, caplog, faulty):
    def make(_, network, preparation, device):
        return pipeline if device == "cpu" else faulty(pipeline, 1.0)

    monkeypatch.setattr(type(model.entry), "pipeline", make)
    data = np.random.default_rng(0).poisson(5, (300, 340))
    with caplog.at_level(logging.WARNING):
        predictor = model.predictor("cuda")
    assert "the CPU is used" in caplog.text
    assert predictor._pipeline is pipeline
    assert model.predict(data).p_keep < 0.5
