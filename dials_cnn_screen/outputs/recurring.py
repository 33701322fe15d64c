"""Where spots recur in a run, in words."""

from __future__ import annotations

from collections.abc import Sequence

from dials_cnn_screen.screening.recurring import Recurring

# Places that are named; more are in the scores file.
_NAMED = 3


def format_recurring(recurring: Sequence[Recurring]) -> list[str]:
    """What recurs and what became of it, a text for each detector that has any."""
    texts = []
    for number, each in enumerate(recurring, 1):
        told = [_format_masked(each), _format_in_doubt(each)]
        if text := " ".join(filter(None, told)):
            which = f"Detector {number}: " if len(recurring) > 1 else ""
            texts.append(which + text)
    return texts


def _format_masked(recurring: Recurring) -> str:
    """What is no crystal; empty where that is nothing."""
    if not recurring.n_masked:
        return ""
    n, n_images = recurring.n_with, recurring.n_images
    text = (
        f"Spots recur at {_count(recurring.n_masked)} of the detector all over the "
        "run, whatever else is on the images "
        f"({_name(recurring, in_doubt=False)}): hot pixels, scratches or static "
        f"scatter, not crystals. {n} of {n_images} images have them. "
    )
    if recurring.left_out:
        text += (
            "These were classified again without them and what is around them, "
            f"{recurring.n_pixels} pixels."
        )
    else:
        text += (
            "They count as spots. To classify these images again without them, give "
            "the same command with resume=True recurring=exclude."
        )
    if recurring.mask is not None:
        text += (
            f" {recurring.mask} masks them, for spotfinder.lookup.mask= of DIALS and "
            "mask= of this program."
        )
    return text


def _format_in_doubt(recurring: Recurring) -> str:
    """What may be a sample that stood still; empty where that is nothing."""
    n = recurring.n_in_doubt
    if not n:
        return ""
    text = (
        f"Spots recur at {_count(n)} ({_name(recurring, in_doubt=True)}) that may be "
        "hot pixels, or of a sample that stood still: the images do not tell, since "
        "too few of them have these and the spots of other crystals. "
    )
    if recurring.n_masked == len(recurring.places):
        return text + "They are in the mask too, as recurring=exclude_all asks for."
    return text + (
        "They are not left out. Look at them in dials.image_viewer; of a run without "
        "a sample, recurring=exclude_all leaves them out."
    )


def _count(n: int) -> str:
    return "1 pixel" if n == 1 else f"{n} pixels"


def _name(recurring: Recurring, in_doubt: bool) -> str:
    """The most frequent places, and on how many images they are."""
    places = recurring.places.choose(recurring.places.in_doubt == in_doubt)
    several = bool(recurring.places.panel.any())
    named = [
        f"{f'panel {panel} ' if several else ''}slow {slow} fast {fast} on {n}"
        for panel, (slow, fast), n in zip(
            places.panel[:_NAMED].tolist(),
            places.pixel[:_NAMED].tolist(),
            places.n_images[:_NAMED].tolist(),
            strict=True,
        )
    ]
    return ", ".join(named) + (", ..." if len(places) > _NAMED else "")
