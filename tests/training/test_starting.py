from __future__ import annotations

import pytest
import torch

from dials_cnn_screen.ke2018.training_set import ImageSchedule
from dials_cnn_screen.models.model_file import load_model
from dials_cnn_screen.spots.training_set import SpotSchedule
from dials_cnn_screen.training.starting import begin_anew, begin_from, choose_schedule


@pytest.mark.parametrize("contrast", ["linear", None])
def test_fresh_weights(contrast):
    torch.manual_seed(0)
    first, second = (begin_anew("fv5080", contrast) for _ in range(2))
    assert (first.architecture, first.model) == ("fv5080", None)
    assert first.network.config.first_kernel == 7
    assert first.preparation.contrast == (contrast or "lcn")
    weights = first.network.classifier.weight, second.network.classifier.weight
    assert not torch.equal(*weights)


def test_no_contrast_for_spots():
    assert begin_anew("spots", None).preparation.most == 192
    with pytest.raises(ValueError, match="contrast=lcn is for networks that see whole"):
        begin_anew("spots", "lcn")


@pytest.mark.parametrize(("architecture", "contrast"), [(None, None), ("spots", None)])
def test_of_a_spot_network_the_end_is_trained(architecture, contrast):
    start = begin_from("default", architecture, contrast)
    trained = {n for n, w in start.network.named_parameters() if w.requires_grad}
    assert trained == {
        f"{layer}.{i}.{x}"
        for layer in ("count", "head")
        for i in (0, 2)
        for x in ("weight", "bias")
    }
    assert start.model.sha256 == load_model("default").sha256
    assert start.preparation == start.model.preparation


def test_of_another_network_all_is_trained(level_model):
    start = begin_from(str(level_model), "ke2018", "none")
    assert start.preparation.size == 32
    assert all(weight.requires_grad for weight in start.network.parameters())


@pytest.mark.parametrize(
    ("model", "architecture", "contrast", "message"),
    [
        ("default", "ke2018", None, "architecture=ke2018, but .* architecture=spots"),
        ("ke2018", "spots", None, "architecture=spots, but .* architecture=ke2018"),
        ("ke2018", None, "none", "contrast=none, but start_from=ke2018 has contrast"),
        ("gone.safetensors", None, None, "'gone.safetensors' is not a file"),
    ],
)
def test_models_that_do_not_fit(model, architecture, contrast, message):
    with pytest.raises(ValueError, match=message):
        begin_from(model, architecture, contrast)


def test_schedules(level_model):
    fresh, spots = begin_anew("ke2018", None), begin_from("default", None, None)
    paper = choose_schedule(fresh, "paper", {"patience": 9, "epochs": None})
    assert paper == ImageSchedule(120, 100, 64, 0.1, 0.0001, patience=9)
    assert choose_schedule(fresh, "short", {"epochs": 2}).epochs == 2
    fitted = choose_schedule(begin_from(str(level_model), None, None), "short", {})
    assert fitted.learning_rate < paper.learning_rate
    assert isinstance(choose_schedule(spots, "short", {}), SpotSchedule)
    changed = choose_schedule(spots, "paper", {"batches": 7})
    assert (changed.epochs, changed.batches, changed.batch_size) == (120, 7, 64)
    with pytest.raises(ValueError, match=r"training\.final_learning_rate does not"):
        choose_schedule(spots, "short", {"final_learning_rate": 0.1})
