"""Where a label's bank runs, and training that does not look there."""

import torch
from torch.nn import functional

from autosam.types import LowMask


def bank_band(target: LowMask, valid: LowMask, cells: float) -> LowMask:
    """The cells on both sides of a label's bank, where a hasty label is most often wrong.

    Runs on the tensors' device, without waiting for it.

    Args:
        target: True for water.
        valid: False where there is no label. Water that ends there, or at the picture's edge, has no
            bank there.
        cells: Width on each side: a cell belongs to the band when the middle of a valid cell of the other
            kind is at most this far away. 1 takes the cells along the bank, 1.5 also those that touch it
            by a corner; less than 1 takes none.

    Returns:
        True in the band, never where not valid.
    """
    water, land = target & valid, ~target & valid
    reach = int(cells)
    offset = torch.arange(-reach, reach + 1, device=target.device)
    disc = (offset[:, None] ** 2 + offset**2 <= cells**2).float()
    # The zeros that pad the frame are neither water nor land. The sums are counts of cells.
    counted = functional.conv2d(
        torch.cat([water, land], dim=1).float(), disc.expand(2, 1, -1, -1), padding=reach, groups=2
    )
    near = counted > 0.5
    return (water & near[:, 1:]) | (land & near[:, :1])


def without_banks(target: LowMask, valid: LowMask, cells: float) -> LowMask:
    """Where a label counts in training whose banks are not to be trusted.

    An image whose water lies wholly in the band keeps all of its label, so that a narrow river does not
    become a picture of land.

    Args:
        target: True for water.
        valid: Where the label counts otherwise.
        cells: Width of the band on each side, as for `bank_band`; 0 leaves `valid` as it is.
    """
    if cells <= 0:
        return valid
    kept = valid & ~bank_band(target, valid, cells)
    # Where there is no water at all, there is no band either, and both are the same.
    has_water = (target & kept).flatten(start_dim=1).any(dim=1)[:, None, None, None]
    return torch.where(has_water, kept, valid)
