"""A third architecture, written here, goes all the way without an edit elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from dials_cnn_screen.architecture import Explanation, NetworkOutput
from dials_cnn_screen.images.frame import Frame
from dials_cnn_screen.labels.image_name import ImageName
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.labels.splits import Splits
from dials_cnn_screen.models import registry
from dials_cnn_screen.models.model import Calibration, Model
from dials_cnn_screen.models.model_file import load_model, save_model
from dials_cnn_screen.training.fitting import Plan, checkpoint_of, fit, fitted_model
from dials_cnn_screen.training.starting import begin_anew, begin_from, choose_schedule

LEVELS = {Label.HIT: 300.0, Label.MAYBE: 200.0, Label.MISS: 100.0}


@dataclass(frozen=True)
class Blocks:
    """The frame in edge x edge blocks, and the mean of each."""

    edge: int = 4

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def block_means(frame: Frame, preparation: Blocks) -> np.ndarray:
    data = np.where(frame.mask, frame.data, 0)
    rows = np.array_split(data, preparation.edge)
    blocks = [np.array_split(row, preparation.edge, axis=1) for row in rows]
    means = [[b.mean() if b.size else 0 for b in row] for row in blocks]
    return np.array(means, np.float32) / 100


@dataclass(frozen=True)
class BlockConfig:
    n_inputs: int = 16
    hidden: int = 8


class BlockNetwork(nn.Module):
    """Its output is a dictionary, as that of no other network here."""

    def __init__(self, config: BlockConfig) -> None:
        super().__init__()
        self.config = config
        self.body = nn.Sequential(nn.Linear(config.n_inputs, config.hidden), nn.Tanh())
        self.classes = nn.Linear(config.hidden, len(Label))

    def forward(self, blocks: torch.Tensor) -> dict[str, torch.Tensor]:
        features = self.body(blocks.flatten(1))
        return {"features": features, "classes": self.classes(features)}


class BlockSet(NamedTuple):
    means: np.ndarray
    labels: np.ndarray

    def put(self, i, prepared, label):
        self.means[i], self.labels[i] = prepared, label

    def batch(self, indices):
        return torch.from_numpy(self.means[indices])

    def augmented(self, indices, augmentation, rng):
        turns = int(rng.integers(4)) if augmentation.quarter_turns else 0
        return torch.rot90(self.batch(indices), turns, dims=(1, 2))

    def logits(self, output):
        return output["classes"]

    def loss(self, output, indices):
        labels = torch.from_numpy(self.labels[indices])
        return nn.functional.cross_entropy(output["classes"], labels)

    def arrays(self) -> Iterator[np.ndarray]:
        yield self.means


@dataclass(frozen=True)
class BlockSchedule:
    epochs: int = 40
    batch_size: int = 6
    momentum: float = 0.9
    batches: int | None = None
    patience: int | None = None

    def optimiser(self, weights):
        return torch.optim.SGD(weights, lr=0.05, momentum=self.momentum)

    def rate(self, optimiser, batches):
        return torch.optim.lr_scheduler.ConstantLR(optimiser, 1.0)


class BlockPipeline:
    def __init__(self, network, preparation, device):
        self.network, self.preparation = network.eval().to(device), preparation
        self.device = device

    def prepare(self, frame):
        return block_means(frame, self.preparation)

    def run(self, prepared):
        with torch.inference_mode():
            output = self.network(torch.from_numpy(prepared)[None].to(self.device))
        return NetworkOutput(
            output["classes"][0].numpy(), output["features"][0].numpy(), None
        )


class BlockArchitecture:
    name = "blocks"

    def preparation(self, **values):
        if unknown := set(values) - {"edge"}:
            raise ValueError(f"architecture=blocks has no {unknown.pop()}")
        return Blocks(**values)

    def network(self, **configuration):
        return BlockNetwork(BlockConfig(**configuration))

    def stored_network(self, configuration, weights):
        return None

    def check(self, network, preparation):
        if preparation.edge**2 != network.config.n_inputs:
            raise ValueError("its network takes another number of blocks")

    def n_features(self, network):
        return network.config.hidden

    def max_spots(self, preparation):
        return None

    def pipeline(self, network, preparation, device):
        return BlockPipeline(network, preparation, device)

    def schedule(self, name, from_model):
        return BlockSchedule(epochs=120 if name == "paper" else 40)

    def freeze(self, network):
        network.body.requires_grad_(False)

    def training_bytes(self, preparation):
        return 4 * preparation.edge**2

    def on_disk(self):
        return False

    def prepare_for_training(self, frame, preparation):
        return block_means(frame, preparation)

    def training_set(self, n, preparation, folder):
        shape = (n, preparation.edge, preparation.edge)
        return BlockSet(np.zeros(shape, np.float32), np.zeros(n, np.int64))

    def explain(self, network, preparation, frame, temperature, predicted, labelled):
        brightest = int(block_means(frame, preparation).argmax())
        sentence = f"Block {brightest} is the brightest of this {predicted.title}"
        return Explanation([sentence], [], {"block": brightest})


@pytest.fixture(autouse=True)
def architecture(monkeypatch) -> BlockArchitecture:
    entry = BlockArchitecture()
    monkeypatch.setitem(registry.ARCHITECTURES, entry.name, entry)
    return entry


def make_frame(level: float, seed: int = 0) -> Frame:
    data = np.random.default_rng(seed).normal(level, 20, (40, 44)).astype(np.float32)
    return Frame(data, np.ones(data.shape, bool), (20.0, 22.0))


@pytest.fixture
def data(architecture) -> BlockSet:
    """60 frames of three mean levels, one for each class."""
    preparation = architecture.preparation()
    data = architecture.training_set(60, preparation, Path())
    for i in range(60):
        label = Label(i % 3)
        frame = make_frame(LEVELS[label], seed=i)
        data.put(i, architecture.prepare_for_training(frame, preparation), label)
    return data


SPLITS = Splits(np.arange(30), np.arange(30, 45), np.arange(45, 60))


@pytest.fixture
def model(data) -> Model:
    """Trained from fresh weights."""
    torch.manual_seed(0)
    start = begin_anew("blocks", None)
    plan = Plan(start, choose_schedule(start, "short", {}))
    result = fit(plan, data, SPLITS, lambda _epoch: None)
    return fitted_model(plan, result, "mine", ["a.h5"], SPLITS)


def test_it_is_trained(data, tmp_path):
    torch.manual_seed(0)
    start = begin_anew("blocks", None)
    plan = Plan(start, choose_schedule(start, "short", {"epochs": 60}))
    checkpoint = checkpoint_of(tmp_path / "checkpoint", plan, data, SPLITS)
    assert checkpoint.run["edge"] == 4
    assert checkpoint.run["training.momentum"] == 0.9
    result = fit(plan, data, SPLITS, lambda _epoch: None, checkpoint=checkpoint)
    assert len(result.history) == 60
    assert (result.predicted == data.labels[SPLITS.test]).mean() > 0.9
    with pytest.raises(ValueError, match=r"training\.learning_rate does not apply"):
        choose_schedule(start, "short", {"learning_rate": 0.1})
    with pytest.raises(ValueError, match="architecture=blocks has no contrast"):
        begin_anew("blocks", "lcn")


def test_a_model_of_it_is_saved_loaded_and_fitted(model, data, tmp_path):
    path = tmp_path / "mine.safetensors"
    save_model(path, model)
    loaded = load_model(path)
    assert (loaded.name, loaded.architecture) == ("mine", "blocks")
    assert loaded.preparation == Blocks(4)
    assert loaded.sha256 == model.sha256
    start = begin_from(str(path), "blocks", None)
    trained = [n for n, w in start.network.named_parameters() if w.requires_grad]
    assert trained == ["classes.weight", "classes.bias"]
    plan = Plan(start, choose_schedule(start, "short", {"epochs": 1}))
    result = fit(plan, data, SPLITS, lambda _epoch: None)
    assert [epoch.epoch for epoch in result.history] == [0, 1]


def test_a_file_that_does_not_go_together(architecture, tmp_path):
    model = Model(
        "wrong",
        architecture.network(),
        "blocks",
        Blocks(edge=5),
        Calibration(),
        "nothing",
        {},
    )
    save_model(tmp_path / "wrong.safetensors", model)
    with pytest.raises(ValueError, match="takes another number of blocks"):
        load_model(tmp_path / "wrong.safetensors")


def test_it_predicts_and_explains(model):
    frame = make_frame(LEVELS[Label.HIT], seed=99)
    prediction = model.predict(frame.data)
    assert prediction.label == Label.HIT
    assert prediction.features.shape == (8,)
    assert prediction.spots is prediction.ood_score is None
    frame.data[:10, :11] = 900
    explanation = model.entry.explain(
        model.network, model.preparation, frame, 1.0, prediction.label, None
    )
    assert explanation.sentences == ["Block 0 is the brightest of this Hit"]


@pytest.mark.parametrize("nproc", [1, 2])
def test_stills_are_screened(model, monkeypatch, nproc):
    pytest.importorskip("dials")
    from dials_cnn_screen.screening import run
    from dials_cnn_screen.screening.decision import Decision
    from dials_cnn_screen.screening.results import ModelSummary, ScreeningResults

    monkeypatch.setattr(run.Source, "read", lambda _, still: still.imageset)
    labels = [Label.MISS, Label.HIT, Label.MAYBE] * 2
    stills = [
        SimpleNamespace(
            imageset=make_frame(LEVELS[label], seed=100 + i),
            position=0,
            name=ImageName("a.h5", i + 1),
        )
        for i, label in enumerate(labels)
    ]
    images = list(run.screen(stills, model, "cpu", Decision(), nproc))
    assert [image.label for image in images] == labels
    assert [image.kept for image in images] == [False, True, True] * 2
    summary = ModelSummary.of(model)
    assert (summary.architecture, summary.max_spots) == ("blocks", None)
    assert list(ScreeningResults(summary, Decision(), images).as_json()["images"])


@pytest.mark.usefixtures("installed_formats")
def test_programs_take_it(write_levels, in_tmp_path):
    pytest.importorskip("dials")
    from dials_cnn_screen.command_line import cnn_explain, cnn_screen, cnn_train

    levels = np.tile(list(LEVELS.values()), 8)
    write_levels("a.h5", levels)
    lines = [f"a.h5 [{i + 1}] {Label(i % 3).name}\n" for i in range(len(levels))]
    Path("labels.txt").write_text("".join(lines))
    train = ["a.h5", "annotation=labels.txt", "architecture=blocks", "mp.nproc=1"]
    cnn_train.run(train)
    assert load_model("model.safetensors").architecture == "blocks"
    cnn_screen.run(["a.h5", "model=model.safetensors", "mp.nproc=1"])
    results = json.loads(Path("cnn_screen.json").read_text())
    assert results["summary"]["failed"] == 0
    classes = [image["class"] for image in results["images"]]
    assert classes == [Label(i % 3).title for i in range(len(levels))]
    assert Path("cnn_screen.html").is_file()
    cnn_explain.run(["a.h5", "model=model.safetensors"])
    assert "is the brightest of this" in Path("cnn_explain.html").read_text()
