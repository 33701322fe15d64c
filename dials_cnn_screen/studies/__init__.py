"""Studies of Ke et al. (2018) done again, one module for each table or figure."""
