"""dxtbx format classes, one for each layout; dxtbx finds them by their entry points."""
