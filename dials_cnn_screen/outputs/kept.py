"""What other programs take of the kept images, and whether they can have it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dxtbx.model import ExperimentList

from dials_cnn_screen.images.selection import select_experiments
from dials_cnn_screen.images.stills import Still
from dials_cnn_screen.labels.image_name import ImageName, format_names
from dials_cnn_screen.models.model import Model
from dials_cnn_screen.outputs.crystfel import write_events
from dials_cnn_screen.screening.parameters import Output
from dials_cnn_screen.screening.results import ImageResult
from dials_cnn_screen.screening.run import NamedImage
from dials_cnn_screen.util.files import replacing
from dials_cnn_screen.util.workers import Processes


def check_kept(output: Output, model: Model, stills: Sequence[Still]) -> None:
    """Raise ValueError for outputs that this model or these images can't have.

    Args:
        output: What is to be written.
        model: That classifies the images.
        stills: All that are to be screened.
    """
    if output.strong is not None and model.max_spots is None:
        raise ValueError(
            f"output.strong={output.strong}, but model {model.name} looks for no "
            "spots; take another, such as model=default, or leave output.strong out"
        )
    if output.hdf5 is None:
        return
    shapes: dict[tuple, ImageName] = {}
    for still in stills:
        detector = still.imageset.get_detector(still.position)
        sizes = tuple(panel.get_image_size() for panel in detector or ())
        shapes.setdefault(sizes, still.name)
    for sizes, name in shapes.items():
        if len({width for width, _ in sizes}) > 1:
            # They lie one below the other, and dxtbx reads whole rows.
            raise ValueError(
                f"output.hdf5={output.hdf5}, but the panels of {name} have several "
                "widths, and those of an HDF5 file have one; leave output.hdf5 out"
            )
    if len(shapes) > 1:
        raise ValueError(
            f"output.hdf5={output.hdf5}, but the images are of {len(shapes)} detectors "
            f"(the first of each: {format_names(list(shapes.values()))}), and those of "
            "an HDF5 file have one shape; screen them apart, or leave output.hdf5 out"
        )


def write_kept(
    output: Output,
    experiments: ExperimentList,
    stills: Sequence[Still],
    images: Sequence[ImageResult],
    mp: Processes,
) -> tuple[list[ImageResult], list[str]]:
    """Write what other programs take of the kept images, as far as it is asked for.

    Args:
        output: What is to be written.
        experiments: That the stills are from.
        stills: All of the run.
        images: The result for each of them; after them those of files that can't be
            read, if there are any.
        mp: Processes that read the images again; one process under MPI, where the
            other ranks have ended.

    Returns:
        The results, those of kept images with their resolution where it is known; and
        what was written, a phrase each.

    Raises:
        ValueError, OSError, ChildProcessError: As write_from_pixels does.
    """
    chosen = [image.kept for image in images[: len(stills)]]
    kept = [still for still, wanted in zip(stills, chosen, strict=True) if wanted]
    saved = []
    lists = ((output.events, write_events), (output.image_list, write_image_list))
    for path, write in lists:
        if path is not None:
            write(path, kept)
            saved.append(f"a list of {len(kept)} images to {path}")
    if not kept or (output.strong is None and output.hdf5 is None):
        return list(images), saved
    # Not above: h5py, and what finds spots, are not for those who only ask for help.
    from dials_cnn_screen.outputs.second_reading import write_from_pixels

    nproc = mp.nproc if mp.method != "mpi" else 1
    hits = select_experiments(experiments, stills, chosen)
    images, of_pixels = write_from_pixels(output, stills, images, hits, nproc)
    return images, saved + of_pixels


def write_image_list(path: str | Path, images: Sequence[NamedImage]) -> None:
    """Write the names of images, ``run1.h5 [1]``, one a line."""
    with replacing(path) as unfinished:
        text = "".join(f"{image.name}\n" for image in images)
        Path(unfinished).write_text(text, encoding="utf-8")
