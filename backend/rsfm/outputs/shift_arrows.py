"""How far the later of two dates lies off, block by block: arrows, drawn many times as long as the shift."""

from rsfm.output import VectorKind


class ShiftArrows(VectorKind):
    name = "shift_arrows"
    fields = ("counts", "down_px", "right_px", "length_px", "quality")
