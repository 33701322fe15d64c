"""Light and charge that spread from a pixel to its neighbours."""

from __future__ import annotations

from functools import lru_cache

import torch

# The point spread is cut where it is this far away, pixels: by hand; at g = 0.85, that
# of the Rayonix, less than 3% are farther.
_REACH = 32


def blur(photons: torch.Tensor, psf: float) -> torch.Tensor:
    """Spread photons by the point spread of a fibre-coupled CCD.

    The profile is g / (2 pi (r^2 + g^2)^(3/2)), Holton et al. (2012), J. Synchrotron
    Rad. 19, 1006, integrated over pixels.

    Args:
        photons: float32 (slow, fast).
        psf: g, pixels.

    Returns:
        float32 (slow, fast), not negative. What spreads off the frame is lost.
    """
    kernel = _psf_kernel(psf)  # (2 reach + 1, 2 reach + 1)
    shape = [n + 2 * _REACH for n in photons.shape]
    product = torch.fft.rfft2(photons, s=shape) * torch.fft.rfft2(kernel, s=shape)
    spread = torch.fft.irfft2(product, s=shape)  # (slow + 2 reach, fast + 2 reach)
    rows, columns = photons.shape
    return spread[_REACH : _REACH + rows, _REACH : _REACH + columns].clamp_(min=0)


@lru_cache(maxsize=64)
def _psf_kernel(g: float) -> torch.Tensor:
    # The cumulative form of the profile is known in closed form, so that a pixel's
    # share is exact however narrow the core: the integral from the origin to (x, y) is
    # atan(x y / (g sqrt(x^2 + y^2 + g^2))) / (2 pi).
    edge = torch.arange(-_REACH, _REACH + 2, dtype=torch.float64) - 0.5
    x, y = edge[None, :], edge[:, None]
    cumulative = torch.atan(x * y / (g * torch.sqrt(x * x + y * y + g * g)))
    share = cumulative.diff(dim=0).diff(dim=1)
    return (share / share.sum()).float()


def share_charge(photons: torch.Tensor, sharing: float) -> torch.Tensor:
    """Spill a share of each pixel's charge over each of its four edges.

    Args:
        photons: float32 (slow, fast).
        sharing: Share of a pixel's charge that goes over one edge.

    Returns:
        float32 (slow, fast).
    """
    for axis in (0, 1):
        spread = (1 - 2 * sharing) * photons
        n = photons.shape[axis] - 1
        spread.narrow(axis, 1, n).add_(photons.narrow(axis, 0, n), alpha=sharing)
        spread.narrow(axis, 0, n).add_(photons.narrow(axis, 1, n), alpha=sharing)
        photons = spread
    return photons


def point_spread_variance(psf: float, sharing: float) -> float:
    """Variance of the spread along either axis, pixels^2.

    That of blur is the one of a Gaussian of the same full width at half maximum,
    2 g sqrt(2^(2/3) - 1), as the profile itself has none; that of share_charge is
    2 sharing.

    Args:
        psf: g of blur, pixels.
        sharing: As of share_charge.
    """
    return (0.65 * psf) ** 2 + 2 * sharing
