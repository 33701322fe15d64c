"""dxtbx format classes, one file for each layout; dxtbx finds them by entry points."""
