"""The networks of Ke et al. (2018), step by step: preprocessing, network."""
