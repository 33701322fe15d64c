"""Networks learn from labels: labelled frames, splits, the training loop."""
