"""Colours of dates: one after the other from dark to light, as time goes on, for every eye (viridis)."""

import numpy as np

VIRIDIS = ("#440154", "#443983", "#31688e", "#21918c", "#35b779", "#90d743", "#fde725")


def date_colours(count: int) -> list[str]:
    """Return that many colours as "#rrggbb"; one alone is in the middle."""
    stops = np.array([[int(colour[start : start + 2], 16) for start in (1, 3, 5)] for colour in VIRIDIS], float)
    places = np.linspace(0, len(stops) - 1, count) if count > 1 else np.array([(len(stops) - 1) / 2])
    mixed = np.stack([np.interp(places, np.arange(len(stops)), channel) for channel in stops.T], axis=-1)
    return ["#" + "".join(f"{round(float(part)):02x}" for part in colour) for colour in mixed]
