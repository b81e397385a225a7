"""Samples as features of a record, and back: what is read equals what was written."""

import io
import json
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tfseg.data.io import decode_image, decode_mask
from tfseg.data.outlines import MAX_SEGMENTS
from tfseg.data.sample import DataError, Sample
from tfseg.ops.panoptic import ids_from_rgb, rgb_from_ids

Features = Mapping[str, bytes | np.ndarray]

#: of the arrays that are no maps of pixels: their type in samples, and their sides (-1: any)
_ARRAYS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "boxes": (np.float32, (-1, 4)),
    "labels": (np.int32, (-1,)),
    "crowd": (np.bool_, (-1,)),
    "keypoints": (np.float32, (-1, -1, 3)),
    "edges": (np.float32, (-1, -1, 4)),
    "area": (np.float32, (-1,)),
    "ids": (np.int64, (-1,)),
    "proposals": (np.float32, (-1, 4)),
}
_MAPS = {"mask": np.int32, "instances": np.int32, "weights": np.float32}


def sample_features(sample: Sample, file: Path | None) -> dict[str, bytes | np.ndarray]:
    """A sample as features.

    - "name"; "image", an encoded image: the file's own bytes if the reader shows it unchanged,
      else a PNG; "channels", to which a gray file is repeated.
    - "mask" and "instances" as gray PNGs of 8 or 16 bits; "weights", and masks of other
      values, as the array's bytes (little endian, rows first), deflated.
    - "boxes", "labels", "crowd", "keypoints", "area", "ids", "proposals": flat lists, of several
      dimensions with "NAME/shape". "edges" likewise, without its padding; "edges/counts" tells
      each object's segments.

    Args:
        sample: of a reader.
        file: the image's.

    Raises:
        DataError: an image that cannot be read again.
        ValueError: a key that `Sample` has not.
    """
    values: Mapping[str, Any] = sample
    features: dict[str, bytes | np.ndarray] = {
        "name": sample["name"].encode(),
        "image": _image_bytes(sample["image"], file),
        "channels": np.array([sample["image"].shape[-1]]),
    }
    for name, value in values.items():
        if name in _MAPS:
            features[name] = _map_bytes(value)
        elif name == "edges":
            counts = _segment_counts(value)
            kept = np.arange(value.shape[1]) < counts[:, None]
            features |= {"edges": value[kept].ravel(), "edges/counts": counts}
            features["edges/shape"] = np.array(value.shape)
        elif name in _ARRAYS:
            flat = value.ravel()
            features[name] = flat if value.dtype == np.float32 else flat.astype(np.int64)
            if value.ndim > 1:
                features[f"{name}/shape"] = np.array(value.shape)
        elif name not in ("name", "image"):
            raise ValueError(f"samples have {name!r}, which prepared sets do not hold")
    return features


def _image_bytes(image: np.ndarray, file: Path | None) -> bytes:
    if file is not None:
        data = file.read_bytes()
        decoded = decode_image(data, str(file))
        fits = decoded.shape[:2] == image.shape[:2] and decoded.shape[-1] in (1, image.shape[-1])
        if fits and (decoded == image).all():
            return data
    return _png(image[..., 0] if image.shape[-1] == 1 else image)


def _png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format="PNG")
    return out.getvalue()


def _map_bytes(values: np.ndarray) -> bytes:
    if values.dtype == np.int32 and values.size and 0 <= values.min() <= values.max() < 1 << 16:
        return _png(values.astype(np.uint8 if values.max() < 256 else np.uint16))
    return zlib.compress(values.astype(values.dtype.newbyteorder("<")).tobytes())


def _segment_counts(edges: np.ndarray) -> np.ndarray:
    """How many segments of each object are in front of its padding of zeros, int64 (N,)."""
    some = (edges != 0).any(-1)
    last = edges.shape[1] - some[:, ::-1].argmax(1)
    counts: np.ndarray = np.where(some.any(1), last, 0)
    return counts


def void_features(void: np.ndarray) -> dict[str, bytes | np.ndarray]:
    """What `void_mask` gives of a sample's bool (H, W), where any is true."""
    return {"void": _png(void.astype(np.uint8))} if void.any() else {}


def segment_features(
    ids: np.ndarray, segments: Iterable[Mapping[str, Any]]
) -> dict[str, bytes | np.ndarray]:
    """A panoptic map int (H, W) and what its segments are; see `PanopticMasks.segments`."""
    info = json.dumps(list(segments)).encode()
    return {"segments": _png(rgb_from_ids(ids)), "segments/info": info}


class Record:
    """A record's features, decoded on demand.

    What is damaged in a way that checksums do not show, as by another program, is a DataError
    that names the record.

    Attributes:
        origin: what messages call it.
    """

    def __init__(self, features: Features, origin: str) -> None:
        self._features, self.origin = features, origin

    def sample(self, keys: Iterable[str]) -> Sample:
        """The sample, with these keys."""
        try:
            values: dict[str, Any] = {"name": self._bytes("name").decode(), "image": self._image()}
            size = values["image"].shape[:2]
            for key in keys:
                if key in _MAPS:
                    values[key] = self._map(key, size)
                elif key == "edges":
                    values[key] = self._edges()
                elif key in _ARRAYS:
                    values[key] = self._array(key)
            sample: Sample = values  # type: ignore[assignment]
            return sample
        except DataError:
            raise
        except (KeyError, ValueError, TypeError, zlib.error) as e:
            raise DataError(f"{self.origin} is damaged: {e}") from e

    def _bytes(self, key: str) -> bytes:
        value = self._features[key]
        if not isinstance(value, bytes):
            raise ValueError(f"{key!r} has no bytes")
        return value

    def _image(self) -> np.ndarray:
        image = decode_image(self._bytes("image"), f"{self.origin}: the image")
        (channels,) = self._numbers("channels")
        if channels == 3 and image.shape[-1] == 1:
            return np.repeat(image, 3, axis=-1)
        if image.shape[-1] != channels:
            raise ValueError(f"the image has {image.shape[-1]} channels, not {channels}")
        return image

    def _numbers(self, key: str) -> list[int]:
        return [int(value) for value in self._features[key]]

    def _map(self, key: str, size: tuple[int, int]) -> np.ndarray:
        data, kind = self._bytes(key), np.dtype(_MAPS[key])
        if data[:1] == b"\x89":
            return self._decoded(key, size)
        expected = size[0] * size[1] * kind.itemsize
        values = zlib.decompressobj().decompress(data, expected + 1)
        if len(values) != expected:
            raise ValueError(f"{key!r} has another size than the image")
        return np.frombuffer(values, kind.newbyteorder("<")).astype(kind).reshape(size)

    def _decoded(self, key: str, size: tuple[int, int]) -> np.ndarray:
        mask = decode_mask(self._bytes(key), f"{self.origin}: {key}")
        if mask.shape != size:
            raise ValueError(f"{key!r} is {mask.shape}, the image {size}")
        return mask

    def _array(self, key: str) -> np.ndarray:
        kind, sides = _ARRAYS[key]
        flat = np.asarray(self._features[key])
        shape = self._numbers(f"{key}/shape") if len(sides) > 1 else [flat.size]
        if len(shape) != len(sides) or any(
            s not in (-1, n) for s, n in zip(sides, shape, strict=True)
        ):
            raise ValueError(f"{key!r} has the shape {shape}")
        return flat.reshape(shape).astype(kind)

    def _edges(self) -> np.ndarray:
        count, longest, _ = shape = self._numbers("edges/shape")
        counts = np.array(self._numbers("edges/counts"), np.int64)
        if len(counts) != count or min(shape) < 0 or max(count, 1) * longest > MAX_SEGMENTS:
            raise ValueError(f"'edges' has the shape {shape}")
        edges = np.zeros((count, longest, 4), np.float32)
        kept = np.arange(longest) < counts[:, None]
        edges[kept] = np.asarray(self._features["edges"], np.float32).reshape(-1, 4)
        return edges

    def void_mask(self, size: tuple[int, int]) -> np.ndarray:
        """See `tfseg.data.sample.ObjectReader`."""
        if "void" not in self._features:
            return np.zeros(size, bool)
        try:
            return self._decoded("void", size) > 0
        except ValueError as e:
            raise DataError(f"{self.origin} is damaged: {e}") from e

    def segments(self, size: tuple[int, int]) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """See `tfseg.data.readers.coco_panoptic.PanopticMasks.segments`."""
        try:
            colors = decode_image(self._bytes("segments"), f"{self.origin}: the segments")
            info = json.loads(self._bytes("segments/info"))
            if colors.shape != (*size, 3):
                raise ValueError(f"the segments are {colors.shape}, the image {size}")
            return ids_from_rgb(colors), info
        except (KeyError, ValueError) as e:
            raise DataError(f"{self.origin} is damaged: {e}") from e
