"""The default model, and how it was made."""
