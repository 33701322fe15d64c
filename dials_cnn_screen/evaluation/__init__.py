"""How well networks and spot counts agree with labels."""
