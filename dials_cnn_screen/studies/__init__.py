"""The paper's tables, how the models of this package are made and evaluated."""
