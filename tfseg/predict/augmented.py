"""Objects from several views, several detectors, or boxes that are there already."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfseg.predict.detect_graph import in_original_pixels
from tfseg.predict.detect_views import DetectViews, Sight
from tfseg.predict.detections import Detections
from tfseg.predict.detector import Detector
from tfseg.predict.frames import Frame, moved
from tfseg.predict.results_file import ResultsFile

#: boxes of any number of images
_BOXES = {
    "boxes": tf.TensorSpec((None, None, 4), tf.float32),
    "scores": tf.TensorSpec((None, None), tf.float32),
    "classes": tf.TensorSpec((None, None), tf.int32),
    "valid": tf.TensorSpec((None, None), tf.bool),
}


class AugmentedDetector(Detector):
    """Objects in images, from all that several views, detectors and files tell of them.

    In the order of Detectron's ``im_detect_all`` (core/test.py): the candidates of all views and
    detectors are brought together ("UNION"), those of one class that overlap are suppressed
    once, hard or softly, and maybe voted on, in the pixels of the network's first view, as a
    network alone does it. Then its views are read once more at the boxes that are left. Of a
    box' mask the mean of the views' probabilities is taken ("SOFT_AVG"), and its keypoints are
    those of the mean of their heat maps ("HM_AVG").

    Of an ensemble the candidates count alike, whichever detector they are from: nothing
    published says more. A candidate that another detector of the ensemble gives to the last bit
    is counted once, so that a detector together with itself finds what it finds alone.

    The boxes of a results file are taken as they are, if there is nothing else; the network only
    describes them. Together with others they are candidates.
    """

    def __init__(
        self,
        own: DetectViews,
        sources: Sequence[DetectViews | ResultsFile] = (),
        *,
        flip_pairs: Sequence[tuple[int, int]] = (),
        score_threshold: float | None = None,
        batch_size: int = 1,
    ):
        """Keeps the parts; nothing is traced yet.

        Args:
            own: the network that describes the objects, and whose limits hold: its thresholds of
                suppression and its number of detections.
            sources: where candidates come from, maybe ``own`` among them; none: ``own`` alone.
            flip_pairs: keypoints that change places in a mirror image.
            score_threshold: only detections with a higher score are given; None: all.
            batch_size: see `Detector`.

        Raises:
            ValueError: for a panoptic network, or a batch size below 1.
        """
        if own.model.panoptic:
            raise ValueError(f"{own.model.name!r} labels whole images too, which has no views")
        style: Any = own.graph.conventions.style
        super().__init__(style, batch_size, score_threshold)
        self._own, self._sources = own, tuple(sources) or (own,)
        self._flip_pairs = tuple(flip_pairs)
        self._choose: Any = tf.function(own.model.detections, input_signature=[_BOXES])
        self._finish: Any = None

    def _batch(self, images: list[np.ndarray], keys: list[int | str] | None) -> list[Detections]:
        for source in self._sources:
            if keys is None and isinstance(source, ResultsFile):
                raise ValueError(
                    f"the boxes of {source.path} are found by the images' ids: give keys"
                )
        own, originals = self._own, np.array([image.shape[:2] for image in images], np.int32)
        sights = own.sights(images) if own.describes or own in self._sources else []
        first = sights[0].frame if sights else own.first_frame(originals)
        found = self._found(images, keys or [], sights, first)
        described = self._described(found, sights, first)
        answer = self._finished(found, described, first.sizes, originals)
        arrays = {name: value.numpy() for name, value in answer.items()}
        return [
            self._detections({name: v[index] for name, v in arrays.items()}, size)
            for index, size in enumerate(originals)
        ]

    def _found(
        self,
        images: Sequence[np.ndarray],
        keys: Sequence[int | str],
        sights: Sequence[Sight],
        first: Frame,
    ) -> dict[str, tf.Tensor]:
        """The objects of all sources, in the pixels of the first view."""
        whole = Frame(first.originals, first.originals)
        if len(self._sources) == 1 and isinstance(self._sources[0], ResultsFile):
            limit = self._own.model.thresholds.detections
            given = self._sources[0].found(keys, first.originals, limit)
            brought = _brought([Sight(whole, {}, given)], first)
            return {name: tf.constant(value) for name, value in brought.items()}
        parts = []
        for source in self._sources:
            if isinstance(source, ResultsFile):
                seen: Sequence[Sight] = [Sight(whole, {}, source.found(keys, first.originals))]
            else:
                seen = sights if source is self._own else source.sights(images)
            parts.append(_brought(seen, first))
        found: dict[str, tf.Tensor] = self._choose(union(parts))
        return found

    def _described(
        self, found: dict[str, tf.Tensor], sights: Sequence[Sight], first: Frame
    ) -> dict[str, tf.Tensor]:
        """The means of the views' masks and heat maps."""
        sums: dict[str, tf.Tensor] = {}
        if not self._own.describes:
            return sums
        boxes = found["boxes"].numpy()
        for sight in sights:
            there = moved(boxes, first, sight.frame)
            described = self._own.describe(sight.features, there, found["classes"])
            if sight.frame.mirrored:
                described = mirrored(described, self._flip_pairs)
            sums = {name: sums.get(name, 0.0) + value for name, value in described.items()}
        return {name: value / len(sights) for name, value in sums.items()}

    def _finished(
        self,
        found: dict[str, tf.Tensor],
        described: dict[str, tf.Tensor],
        sizes: np.ndarray,
        originals: np.ndarray,
    ) -> dict[str, tf.Tensor]:
        """The objects in the images' own pixels."""
        model, inclusive = self._own.model, self._own.graph.conventions.inclusive

        def finish(found: Any, described: Any, sizes: tf.Tensor, originals: tf.Tensor) -> Any:
            found = dict(found)
            if "heatmaps" in described:
                boxes, valid = found["boxes"], found["valid"]
                found["keypoints"] = model.keypoints(described["heatmaps"], boxes, valid)
            if "masks" in described:
                found["masks"] = described["masks"]
            return in_original_pixels(found, sizes, originals, inclusive=inclusive)

        if self._finish is None:  # now the grids' sizes are known
            specs = {
                name: tf.TensorSpec((None, None, *value.shape[2:]), value.dtype)
                for name, value in described.items()
            }
            pairs = tf.TensorSpec((None, 2), tf.int32)
            self._finish = tf.function(finish, input_signature=[_BOXES, specs, pairs, pairs])
        answer: dict[str, tf.Tensor] = self._finish(
            found, described, tf.constant(sizes), tf.constant(originals)
        )
        return answer


def _brought(sights: Sequence[Sight], first: Frame) -> dict[str, np.ndarray]:
    """All that one source has found, in the pixels of the first view."""
    parts = [
        sight.found | {"boxes": moved(sight.found["boxes"], sight.frame, first)} for sight in sights
    ]
    return {name: np.concatenate([part[name] for part in parts], axis=1) for name in parts[0]}


def union(parts: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The candidates of several sources together.

    Args:
        parts: of each source "boxes" (B, N, 4), "scores", "classes" and "valid" (B, N).

    Returns:
        The same of all, one after another. What an earlier source has too, the same box, score
        and class to the last bit, is not valid.
    """
    found = {name: np.concatenate([part[name] for part in parts], axis=1) for name in parts[0]}
    if len(parts) == 1:
        return found
    source = np.repeat(np.arange(len(parts)), [part["scores"].shape[1] for part in parts])
    columns = (found["boxes"], found["scores"][..., None], found["classes"][..., None])
    rows = np.concatenate(columns, axis=-1, dtype=np.float32)
    rows[~found["valid"]] = 0
    for row, valid in zip(rows, found["valid"], strict=True):
        _, same = np.unique(row, axis=0, return_inverse=True)
        earliest = np.full(len(row), len(parts))
        np.minimum.at(earliest, same.ravel(), source)
        valid &= source == earliest[same.ravel()]
    return found


def mirrored(
    described: dict[str, tf.Tensor], flip_pairs: Sequence[tuple[int, int]]
) -> dict[str, tf.Tensor]:
    """Masks and heat maps of a mirrored image, as those of the image.

    Args:
        described: "masks" (B, R, M, M), "heatmaps" (B, R, S, S, K), or one of them.
        flip_pairs: keypoints that change places.
    """
    turned = {name: tf.reverse(value, axis=[3]) for name, value in described.items()}
    if "heatmaps" in turned:
        order = list(range(turned["heatmaps"].shape[-1]))
        for a, b in flip_pairs:
            order[a], order[b] = b, a
        turned["heatmaps"] = tf.gather(turned["heatmaps"], order, axis=-1)
    return turned
