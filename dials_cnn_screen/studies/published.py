"""The figures that Ke et al. (2018) printed, in percent."""

from __future__ import annotations

from typing import TypeAlias

# Of images by the experiment or group that they are of.
Rates: TypeAlias = dict[str, float]

# Of each experiment: Hit or Maybe kept and Miss rejected by the network, of 600 test
# images; the same by spot finding, of all 2000 (section 3.4).
TABLE_3: dict[str, tuple[tuple[float, float], tuple[float, float]]] = {
    "L498": ((69.0, 93.1), (12.8, 99.5)),
    "LG36": ((91.1, 98.2), (77.7, 97.4)),
    "LN84": ((98.5, 89.9), (69.9, 99.6)),
    "LN83": ((98.5, 96.9), (85.8, 99.9)),
    "LO19": ((94.8, 96.0), (80.6, 100.0)),
}
# Success rates (equation 10) by what was trained on, and tested on.
TABLE_4: dict[str, Rates] = {
    "LO19": {"LO19": 93, "LN83": 85, "LN84": 65},
    "LN83": {"LO19": 91, "LN83": 96, "LN84": 90},
    "LN84": {"LO19": 74, "LN83": 92, "LN84": 90},
}
TABLE_5: dict[str, Rates] = {
    "Rayonix": {"Rayonix": 92, "LG36": 12, "L498": 41},
    "LG36": {"Rayonix": 33, "LG36": 96, "L498": 30},
    "L498": {"Rayonix": 67, "LG36": 85, "L498": 82},
}
TABLE_6: dict[str, Rates] = {
    "Rayonix": {"Rayonix": 91, "LG36": 12, "L498": 41},
    "Rayonix + LG36": {"Rayonix": 94, "LG36": 91, "L498": 54},
    "Rayonix + LG36 + L498": {"Rayonix": 91, "LG36": 94, "L498": 74},
}
# Success rates by number of training images of Rayonix + LG36.
TABLE_7: dict[int, Rates] = {
    4000: {"Rayonix": 94, "LG36": 91},
    2000: {"Rayonix": 92, "LG36": 93},
    400: {"Rayonix": 93, "LG36": 92},
    100: {"Rayonix": 91, "LG36": 95},
}
# Success rates by contrast, of networks trained and tested on the same group. Without
# contrast adjustment the paper gives no figure: "almost impossible to train" (section
# 3.7).
TABLE_8: dict[str, Rates] = {
    "Rayonix": {"linear": 69, "lcn": 91},
    "LG36": {"linear": 95, "lcn": 96},
    "L498": {"linear": 68, "lcn": 81},
}
