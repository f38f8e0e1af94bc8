"""RSFM: pretrain remote-sensing encoders on your own rasters, and map with them."""

__version__ = "0.1.0"
PROTOCOL = 1
"""Version of the messages between the plugin and the server; both sides compare it in the handshake."""
