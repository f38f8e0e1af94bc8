"""RSFM: pretrain remote-sensing encoders on your own rasters, and map with them."""

import os

__version__ = "0.1.0"
PROTOCOL = 1
"""Version of the messages between the plugin and the server; both sides compare it in the handshake."""

# torch's threads spin while they wait unless told before its import: beside QGIS or any busy program both get slow.
# A short spin, what GNU OpenMP itself takes on a crowded machine, spares most of the waking between small operations.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
