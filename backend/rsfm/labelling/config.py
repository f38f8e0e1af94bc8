"""What teaches a map in seconds: a raster, labels that are still being drawn, features and a learner."""

from pydantic import Field

from rsfm.params import Area, Config, Device, FieldName, OptionalModelPath, RasterPath, Seed, VectorPath


class LabellingConfig(Config):
    """A raster, its labels so far, and what learns from them."""

    raster: RasterPath = Field(description="Raster to look at.")
    labels: VectorPath = Field(description="Polygons with a class, as far as they are drawn.")
    class_field: FieldName = Field("class", description="Attribute that holds the class, text or number.")
    model: OptionalModelPath = Field(
        None, description="Pretrained encoder; empty uses the pixels.", json_schema_extra={"needs": "encoder"}
    )
    features: str = Field(
        "auto",
        description="What is known of each pixel.",
        json_schema_extra={
            "choices": ["auto", "pretrained", "texture", "pixels"],
            "titles": ["The encoder, or else texture", "Pretrained encoder", "Pixels and texture", "Pixels"],
        },
        pattern="^(auto|pretrained|texture|pixels)$",
    )
    learner: str = Field(
        "linear",
        description="What learns: logistic regression is quick and steady; a random forest bends around classes "
        "that lie in several places.",
        json_schema_extra={"choices": ["linear", "forest"], "titles": ["Logistic regression", "Random forest"]},
        pattern="^(linear|forest)$",
    )
    area: Area = Field(None, description="Look at this part only; empty takes what is on the screen.")
    device: Device = Field("auto", description="Device to use; auto takes the GPU with the most free memory.")
    seed: Seed = Field(0, description="The same seed gives the same map.")
