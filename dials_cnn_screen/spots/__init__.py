"""The default model, step by step: background, candidates, network, OOD score."""
