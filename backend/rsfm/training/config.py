"""How long and how fast an encoder is trained."""

from typing import Annotated, Literal

from pydantic import Field

from rsfm.params import AUTOMATIC, Config, Hint, Minutes

NO_BUDGET = "The budget is empty. Set 'Minutes', or with 0 minutes 'Epochs' or 'Samples'."


class TrainingConfig(Config):
    """The budget, and the optimizer's settings; every schedule ends with the budget."""

    minutes: Minutes = Field(3, ge=0, le=10080, description="Time to learn; 0 counts epochs or samples instead.")
    epochs: int = Field(0, ge=0, le=10000, description="Passes over the windows; used when the time is 0.")
    samples: Annotated[int, Hint(advanced=True)] = Field(
        0, ge=0, le=10**10, description="Windows that are learned from, repeated ones counted; used when both are 0."
    )
    batch_size: int = Field(128, ge=2, le=4096, description="Windows in a step.")
    learning_rate: float = Field(1e-3, ge=0, le=100, description="Peak learning rate at this batch size.")
    weight_decay: float = Field(0.05, ge=0, le=1, description="Pull of the weights towards zero.")
    optimizer: Annotated[Literal["adamw", "sgd"], Hint(advanced=True)] = Field("adamw", description="Optimizer.")
    beta2: float = Field(0.95, ge=0, le=0.9999, description="AdamW's second moment; the first is 0.9.")
    decay_all: bool = Field(True, description="Decay biases and norms as well, as MoCo v2 does and MAE does not.")
    schedule: Literal["step", "epoch"] = Field("step", description="The cosine falls with every step or every epoch.")
    warmup: float = Field(0.05, ge=0, le=0.5, description="Share of the budget in which the learning rate rises.")
    final_rate: float = Field(0, ge=0, le=1, description="Learning rate at the end, as a share of its peak.")
    decay_growth: float = Field(
        1, ge=0.001, le=1000, description="Weight decay at the end, as a multiple of that at the start; DINO takes 10."
    )
    epsilon: Annotated[float, Hint(advanced=True)] = Field(
        1e-8, ge=1e-12, le=1, description="AdamW's floor of the second moment's root."
    )
    clip_norm: float = Field(1.0, ge=0, le=100, description="Limit of the gradient's norm; 0 sets none.")
    clip_each: bool = Field(False, description="Limit each tensor's gradient by itself, as DINO does.")
    checkpoint_minutes: Annotated[Minutes, Hint(advanced=True)] = Field(
        5, ge=0, le=1440, description="Time between two checkpoints: at most this much is lost when a computer fails."
    )
    readers: Annotated[int, Hint(advanced=True)] = Field(
        1, ge=0, le=64, description="Threads that read windows ahead; 0 reads between the steps."
    )
    compile: Annotated[Literal["automatic", "yes", "no"], Hint(advanced=True)] = Field(
        "automatic",
        title="Compile the network",
        description="Take a minute or two at the start to make the steps faster; automatic does so on "
        "an NVIDIA GPU when 20 minutes or more are to go.",
    )
    at_once: Annotated[int, AUTOMATIC, Hint(advanced=True)] = Field(
        0, ge=0, le=4096, description="Windows computed at once, a step's rest after them; 0 takes what fits."
    )

    @property
    def is_endless(self) -> bool:
        """Whether no budget is given."""
        return not (self.minutes or self.epochs or self.samples)

    def steps(self, steps_per_epoch: int) -> int:
        """Return the steps of a budget that is not a time."""
        return self.epochs * steps_per_epoch or -(-self.samples // self.batch_size)
