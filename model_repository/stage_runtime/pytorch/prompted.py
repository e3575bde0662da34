"""SAM2's own prompts on a device: the loop of `stage_runtime.prompts`, around captured stages."""

from ..prompts.decoder import PromptedDecoder
from .device.card_arrays import CardArrays
from .network import Network
from .placing import Placing


def load_prompted_decoder(network: Network, placing: Placing) -> PromptedDecoder:
    """Capture the stages that track prompts, and build the loop around them."""
    engines = {name: placing.stage(stage) for name, stage in network.prompt_stages().items()}
    # What the stages take is small but for features, memories and tokens, and those stay on the device.
    return PromptedDecoder(engines, network.memory_sizes(), network.constants(), CardArrays(placing.device))
