from __future__ import annotations

import numpy as np
import pytest
import torch

from dials_cnn_screen.util.devices import take


@pytest.mark.parametrize("values", [np.arange(12).reshape(4, 3), torch.eye(4)])
def test_elements_are_taken_from_arrays_and_tensors(values):
    taken = take(values, np.array([3, 0]))
    assert isinstance(taken, torch.Tensor)
    assert torch.equal(taken, torch.as_tensor(values)[[3, 0]])
    taken[:] = 7
    assert not (torch.as_tensor(values) == 7).all(dim=1).any()
