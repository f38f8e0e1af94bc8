"""How a decoder learns from polygons."""

from typing import Annotated, Literal

from pydantic import Field

from rsfm.params import Config, Fraction, Hint

TITLES = ["Leave it as it is", "Its last blocks", "Small additions to it (LoRA)", "All of it"]


class LearningConfig(Config):
    """How a decoder learns, and how much of the encoder learns with it. The linear head needs none of this."""

    encoder: Annotated[Literal["frozen", "last", "adapters", "all"], Hint(titles=TITLES)] = Field(
        "all",
        title="Train the encoder",
        description="How much of the encoder learns with the decoder. The fewer the polygons, the less.",
    )
    last_blocks: int = Field(2, ge=1, le=64, description="Blocks at its end that learn, if its last blocks do.")
    rank: Annotated[int, Hint(advanced=True)] = Field(
        8, ge=1, le=512, description="Size of the small additions, if they learn; 4 to 16 are usual."
    )
    layer_decay: Fraction = Field(
        0.9,
        ge=0.1,
        le=1,
        description="Learning rate of a block of the encoder, as a share of that of the block after it.",
    )
    drop_path: Fraction = Field(
        0, ge=0, le=0.9, description="How often a transformer's last block is left out at random; PerA takes 0.1."
    )
    loss: Literal["cross_entropy", "focal"] = Field(
        "cross_entropy", description="What counts as an error; focal looks more at pixels that are still wrong."
    )
    focus: float = Field(2, ge=0, le=10, description="How much more focal looks at them.")
    dice: Fraction = Field(
        0, ge=0, le=1, description="Share of Dice in the loss, which counts overlap: helps with small, rare classes."
    )
    balanced: bool = Field(True, description="Every class weighs the same, however many pixels are labelled.")
    zoom: float = Field(
        1.25, ge=1, le=4, description="Windows are shown up to this many times larger or smaller; 1 does not zoom."
    )
