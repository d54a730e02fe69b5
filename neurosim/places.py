"""Places of a network, as traces name them: `layer1`, and `interneuron1` beside it."""

import re


def layer_of(place: str) -> int:
    """The layer of a place, with whose number its name ends."""
    return int(re.sub(r".*?(\d+)$", r"\1", place))


def spelled(place: str) -> str:
    """A place in words: "layer 1", "interneuron 1"."""
    return re.sub(r"(\d+)$", r" \1", place)


def is_layer(place: str) -> bool:
    """Whether it is the first population of its layer, which stands for it."""
    return re.fullmatch(r"layer\d+", place) is not None
