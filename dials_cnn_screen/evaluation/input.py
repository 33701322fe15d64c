"""Labels, scores and spot counts of the same images, from whatever has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dials_cnn_screen.evaluation.figures import Judged
from dials_cnn_screen.evaluation.spotfinding import Found
from dials_cnn_screen.images.stills import Still
from dials_cnn_screen.labels.annotation import Annotation, read_annotations
from dials_cnn_screen.labels.label import Label
from dials_cnn_screen.labels.matching import match_labels
from dials_cnn_screen.labels.spot_counts import read_spot_counts
from dials_cnn_screen.screening.scores_file import read_scores

# Images that a message names.
_NAMED = 3
# What stands in cnn_evaluate.json of an entry of cnn_screen.json.
_OF_ENTRY = ("p_hit", "p_maybe", "p_miss", "class", "unlike_training", "error")


@dataclass(frozen=True, eq=False)
class Labelled:
    """Images that an expert labelled.

    names: file and frame, from 1, of each. labels: int (n,), Label. training: bool
    (n,), those to choose cuts on. stills: the images themselves, where there are any.
    """

    names: list[tuple[str, int]]
    labels: np.ndarray
    training: np.ndarray
    stills: list[Still] | None

    def with_training(self, fraction: float, seed: int) -> Labelled:
        """With a fraction of the images drawn for training."""
        n = len(self.names)
        order = np.random.default_rng(seed).permutation(n)
        chosen = np.isin(np.arange(n), order[: round(fraction * n)])
        return replace(self, training=chosen)


@dataclass(frozen=True, eq=False)
class Scored:
    """What a network says of images.

    model: as in cnn_screen.json. entries: those of cnn_screen.json, one an image.
    seconds: mean time to read, prepare and classify one; None where not known.
    """

    model: dict
    entries: list[dict]
    seconds: dict[str, float] | None


@dataclass(frozen=True, eq=False)
class Counted:
    """Spots of images, int (n,), by which program or file, and the cut in spots.

    parameters: of that program, those that are not its own, in PHIL form. seconds: mean
    time to read an image, and to find its spots. None where not known. remarks: what a
    user should know of the counts.
    """

    n_spots: np.ndarray
    source: str
    min_spots: int | None
    parameters: str | None = None
    seconds: dict[str, float] | None = None
    remarks: tuple[str, ...] = ()


def read_labelled(
    annotation: Sequence[str | Path | None],
    training: Sequence[str | Path | None],
    stills: Sequence[Still] | None,
) -> Labelled:
    """The labelled images of the annotation, and those of the training part's.

    Without stills any image that is named is taken to be there. Raises ValueError as
    match_labels does, also where an image is in both parts.
    """
    files = [path for path in annotation if path is not None]
    others = [path for path in training if path is not None]
    if not files:
        raise ValueError("no labels: give annotation=labels.txt")
    if stills is not None:
        labelled = match_labels(stills, files + others)
        apart = match_labels(stills, others) if others else []
        names = [(still.file, still.frame) for still, _ in labelled]
        for_training = {id(still) for still, _ in apart}
        chosen = [id(still) in for_training for still, _ in labelled]
        found = [still for still, _ in labelled]
    else:
        labelled = _read_labels(files + others)
        names = [(a.file, a.frame) for a, _ in labelled]
        chosen = [path in others for _, path in labelled]
        found = None
        labelled = [(a, a.label) for a, _ in labelled]
    labels = np.array([int(label) for _, label in labelled])
    return Labelled(names, labels, np.array(chosen), found)


def read_scored(images: Labelled, path: str | Path) -> Scored:
    """What a network said of the images in an earlier run, cnn_screen.json.

    Raises ValueError where it is not one, or has not all of the images.
    """
    model, known = read_scores(path, _check_entry)
    if missing := [name for name in images.names if name not in known]:
        raise ValueError(
            f"{len(missing)} labelled images are not among those of '{path}': "
            f"{_name_some(missing)}; screen these too, or label them None"
        )
    return Scored(model, [known[name] for name in images.names], None)


def read_counted(images: Labelled, path: str | Path, min_spots: int | None) -> Counted:
    """The spots of the images by a file of counts; without a line there are none.

    Raises ValueError where it is not one, and where the images are of several files,
    as the counts do not say which is which.
    """
    counts = read_spot_counts(path)
    if len(files := sorted({file for file, _ in images.names})) > 1:
        raise ValueError(
            f"spot_counts are of the images of one file, and {len(files)} are labelled "
            f"({', '.join(files[:_NAMED])}); evaluate one at a time"
        )
    frames = [frame for _, frame in images.names]
    remarks = []
    if others := sorted(counts.by_frame.keys() - set(frames)):
        remarks.append(
            f"{len(others)} lines of {path} are of images without a label and are left "
            f"out ({others[0]}{' and others' if len(others) > 1 else ''})"
        )
    if without := sum(frame not in counts.by_frame for frame in frames):
        remarks.append(f"{without} images have no line in {path}: no spots")
    if min_spots is not None and not counts.agrees_with(min_spots):
        remarks.append(
            f"the classes in {path} are not those of min_spots={min_spots}: there a "
            f"Hit has {counts.fewest_of_hit} spots, a Miss {counts.most_of_miss}; the "
            "classes are not used"
        )
    n_spots = np.array([counts.by_frame.get(frame, 0) for frame in frames])
    return Counted(n_spots, str(path), min_spots, remarks=tuple(remarks))


def counted_now(
    images: Labelled, found: Sequence[Found], parameters: str, min_spots: int | None
) -> Counted:
    """The spots that dials.find_spots found on the images; none where it failed.

    Raises ValueError where it failed on all of them.
    """
    failed = [
        f"{file} [{frame}]: {f.error}"
        for (file, frame), f in zip(images.names, found, strict=True)
        if f.error is not None
    ]
    if len(failed) == len(found):
        raise ValueError(
            f"dials.find_spots failed on every image ({failed[0]}); check what is set "
            "under spotfinder"
        )
    gave_up = sum(f.n_spots is None and f.error is None for f in found)
    remarks = []
    if failed:
        remarks.append(
            f"dials.find_spots failed on {len(failed)} images, which are taken to have "
            f"no spots; {failed[0]}"
        )
    if gave_up:
        remarks.append(
            f"dials.find_spots gave up on {gave_up} images for too many strong pixels; "
            "they are taken to have no spots; raise the gain or the threshold"
        )
    seconds = np.mean([f.seconds for f in found if f.error is None], axis=0)
    return Counted(
        np.array([f.n_spots or 0 for f in found]),
        "dials.find_spots",
        min_spots,
        parameters,
        dict(zip(("reading", "finding"), seconds.round(4).tolist(), strict=True)),
        tuple(remarks),
    )


def judged(images: Labelled, scored: Scored | None, counted: Counted | None) -> Judged:
    """The images as arrays, for evaluate."""
    p, unlike = None, np.zeros(len(images.names), bool)
    if scored is not None:
        p = np.array([_probabilities(entry) for entry in scored.entries])
        # Scores files of older versions do not say.
        unlike = np.array(
            [entry.get("unlike_training") is True for entry in scored.entries]
        )
    return Judged(
        images.labels, p, unlike, None if counted is None else counted.n_spots
    )


def describe_images(
    images: Labelled, scored: Scored | None, counted: Counted | None, threshold: float
) -> list[dict]:
    """An entry of cnn_evaluate.json for each image."""
    everything = judged(images, scored, counted)
    described = []
    for i, (file, frame) in enumerate(images.names):
        entry = {
            "file": file,
            "frame": frame,
            "expert": Label(images.labels[i]).title,
            "training": bool(images.training[i]),
        }
        if scored is not None:
            entry |= {key: scored.entries[i].get(key) for key in _OF_ENTRY}
        if counted is not None:
            entry["spotfinder_spots"] = int(everything.n_spots[i])
        described.append(entry)
    if scored is not None:
        for entry, kept in zip(described, everything.kept(threshold), strict=True):
            entry["kept"] = bool(kept)
    return described


def _read_labels(files: Sequence[str | Path]) -> list[tuple[Annotation, str | Path]]:
    """Lines with a label, and the files that they are from."""
    found: dict[tuple[str, int], tuple[Annotation, str | Path]] = {}
    for path in files:
        for a in read_annotations(path):
            if (name := (a.file, a.frame)) in found:
                raise ValueError(
                    f"{a.where}: {a.file} [{a.frame}] is labelled twice, also in "
                    f"{found[name][0].where}; keep one of the two lines"
                )
            found[name] = a, path
    labelled = [(a, path) for a, path in found.values() if a.label is not None]
    if not labelled:
        raise ValueError(f"no image is labelled in {', '.join(map(str, files))}")
    return labelled


def _probabilities(entry: dict) -> list[float]:
    """P(Hit), P(Maybe), P(Miss); NaN where the image was not judged."""
    p = [entry[f"p_{label.name.lower()}"] for label in Label]
    return [np.nan if x is None else x for x in p]


def _check_entry(image: dict) -> dict:
    """An image of cnn_screen.json as it is; ValueError for what is no probability."""
    p = [image[f"p_{label.name.lower()}"] for label in Label]
    if p != [None] * len(Label) and not (
        all(0 <= x <= 1 for x in p) and abs(sum(p) - 1) < 1e-3
    ):
        raise ValueError(f"{image['file']} [{image['frame']}] has probabilities {p}")
    return image


def _name_some(names: Sequence[tuple[str, int]]) -> str:
    some = ", ".join(f"{file} [{frame}]" for file, frame in names[:_NAMED])
    return f"{some}, ..." if len(names) > _NAMED else some
