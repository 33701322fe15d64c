"""Networks learn from labels: frames, parts, the course of a training."""
