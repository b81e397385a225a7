"""What a name map is made of."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

from tfseg.registry import Spec

#: (the checkpoint's array, the variable's shape in Keras) -> the array in Keras' layout
Convert = Callable[[np.ndarray, tuple[int, ...]], np.ndarray]


@dataclass(frozen=True)
class Target:
    """Where a checkpoint has a layer, in more than one word.

    Attributes:
        name: of the layer; its convolution or its norm's statistics.
        norm: of another layer that has the norm's scale and offset (Caffe's Scale).
        folded: where the file has no norm's statistics, they are folded into scale and offset.
        convert: what turns a variable's array into Keras' layout, where transposing does not.
        alternative: another name that the layer may have.
        pattern: regular expression of the names that the layer may have, where they differ from
            file to file.
    """

    name: str
    norm: str | None = None
    folded: bool = False
    convert: Mapping[str, Convert] = field(default_factory=dict)
    alternative: str | None = None
    pattern: str | None = None


#: a layer's name in tfseg -> in the checkpoint
Translate = Callable[[str], str | Target]


@dataclass(frozen=True)
class Map:
    """How the checkpoints of one origin name the layers of some networks.

    Attributes:
        networks: shell pattern of registered names.
        origin: "caffe", "torchvision", ...
        translate: gives a layer's name in the checkpoint. For trunks it is called without the
            prefix "backbone.".
        unused: prefixes of names that checkpoints have beside the network or trunk.
        styles: of the networks that take such checkpoints; none given: the origin's own.
        check: raises ValueError if a checkpoint of these names is not for such a network.
    """

    networks: str
    origin: str
    translate: Translate
    unused: tuple[str, ...] = ()
    styles: tuple[str, ...] = ()
    check: Callable[[Spec, Collection[str]], None] | None = None


@dataclass(frozen=True)
class Architecture:
    """All that importers and golden files need to know of one architecture's names.

    Attributes:
        networks: maps of whole networks.
        trunks: maps of trunks in ImageNet checkpoints.
        heads: shell pattern of registered names -> regular expression of the layers whose shape
            depends on the number of classes, or that deployed files lack.
        taps: shell pattern of registered names -> the layer whose output a reference's
            activation of this name is.
    """

    networks: tuple[Map, ...] = ()
    trunks: tuple[Map, ...] = ()
    heads: Mapping[str, str] = field(default_factory=dict)
    taps: Mapping[str, Callable[[str], str]] = field(default_factory=dict)


def same(name: str) -> str:
    """The name itself."""
    return name


def convolution_of(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A fully connected layer's kernel (out, C H W) as a convolution's (H, W, C, out)."""
    height, width, channels, out = shape
    return array.reshape(out, channels, height, width).transpose(2, 3, 1, 0)


def dense_of(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A fully connected layer's kernel (out, in) as a 1x1 convolution's (1, 1, in, out)."""
    return array.T[None, None]
