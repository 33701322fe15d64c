"""Simulated shots prepared for training, made side by side on all cores."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from dials_cnn_screen.dataset import Dataset, allocate_images, wide
from dials_cnn_screen.labels import Label
from dials_cnn_screen.preprocessing import Preprocessing, prepare
from dials_cnn_screen.simulation.detector import usable_pixels
from dials_cnn_screen.simulation.experiments import EXPERIMENTS
from dials_cnn_screen.simulation.shot import simulate_shot

Job = tuple[str, int, Preprocessing]


def simulate_dataset(
    path: Path, experiments: list[str], n_each: int, seed: int, preprocessing
) -> Iterator[int]:
    """Simulate n_each shots of each experiment, aimed at the three classes in turn.

    Writes path (images), path with suffix .labels.npy and .experiments.npy (names).
    Yields the count of shots done. Shot i has the seed seed + i, so that sets whose
    seeds differ by more than their sizes share no shot.
    """
    names = np.repeat(experiments, n_each)
    images = allocate_images(path, len(names), preprocessing)
    labels = np.zeros(len(names), dtype=np.int64)
    jobs = [(name, seed + i, preprocessing) for i, name in enumerate(names)]
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        for i, (image, label) in enumerate(pool.imap(_simulate, jobs, chunksize=8)):
            images[i], labels[i] = image, label
            yield i + 1
    images.flush()
    np.save(path.with_suffix(".labels.npy"), labels)
    np.save(path.with_suffix(".experiments.npy"), names)


def load_dataset(path: Path) -> tuple[Dataset, np.ndarray]:
    """The dataset written by simulate_dataset, and each shot's experiment."""
    images = np.load(path, mmap_mode="r")
    labels = np.load(path.with_suffix(".labels.npy"))
    return Dataset(images, labels), np.load(path.with_suffix(".experiments.npy"))


def _simulate(job: Job) -> tuple[np.ndarray, int]:
    torch.set_num_threads(1)
    name, seed, preprocessing = job
    experiment = EXPERIMENTS[name]
    aim = Label(seed % len(Label))
    shot = simulate_shot(experiment, aim, seed)
    detector = experiment.detector
    frame = prepare(
        shot.image,
        usable_pixels(detector, shot.image),
        detector.beam_centre,
        wide(preprocessing),
    )
    return frame.astype(np.float16), int(shot.label)
