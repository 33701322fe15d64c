"""A screening run: images to results to decisions; calibration; the veto."""
