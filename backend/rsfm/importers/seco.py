"""SeCo: the query encoder of a Lightning checkpoint, a ResNet whose parts are numbered."""

from rsfm.checkpoint_file import Checkpoint
from rsfm.importer import Found, Importer, backbone_of, under
from rsfm.published_scaling import S2_RGB

QUERY = "encoder_q."
PARTS = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
TIMELESS = "Its features were taught not to change with the season in part; for change, choose early ones."


class Seco(Importer):
    name = "seco"
    title = "SeCo (Lightning checkpoint)"

    def find(self, checkpoint: Checkpoint) -> Found | None:
        state = checkpoint.states.get("state_dict") or checkpoint.states.get("") or {}
        if f"{QUERY}0.weight" not in state:
            return None
        weights = {_named(name): value for name, value in under(state, QUERY).items()}
        backbone = backbone_of(weights, "mean")
        if backbone is None:
            return None
        bands, scaling = (S2_RGB, "seco") if backbone.bands == len(S2_RGB) else ((), "")
        left_out = tuple(name for name in state if not name.startswith(QUERY))
        return Found(backbone, "seco", bands, scaling, left_out, (TIMELESS,))


def _named(name: str) -> str:
    """Write the name of a numbered part as torchvision does."""
    number, _, rest = name.partition(".")
    return f"{PARTS.get(number, number)}.{rest}"
