"""The first three components of an embedding as red, green and blue, 1 to 255."""

from rsfm.output import RasterKind


class EmbeddingPicture(RasterKind):
    name = "embedding_picture"
    dtype = "uint8"
    nodata = 0
    overviews = "average"
    predictor = 2
