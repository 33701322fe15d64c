"""How well models and spot counts agree with labels."""
