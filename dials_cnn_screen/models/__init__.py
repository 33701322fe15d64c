"""The registry of architectures, model files, predict(); the models of this package."""
