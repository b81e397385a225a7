"""Faster, Mask, Keypoint and Cascade R-CNN: two or more stages, from images to objects.

Ren, He, Girshick, Sun, Faster R-CNN, 2015; Lin et al., Feature Pyramid Networks, 2017; He,
Gkioxari, Dollár, Girshick, Mask R-CNN, ICCV 2017; Cai, Vasconcelos, Cascade R-CNN, CVPR 2018.
Sizes are fixed throughout: what there is less of is filled up and marked as not valid.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from tfseg.models.rcnn.conventions import Conventions
from tfseg.models.rcnn.layout import Layout, Thresholds
from tfseg.models.rcnn.selection import best_proposals, candidates, detections
from tfseg.ops.anchors import cell_anchors, grid_anchors
from tfseg.ops.boxes import clip, decode
from tfseg.ops.keypoints import decode_keypoints
from tfseg.ops.roi import pool_regions, pyramid_levels

RATIOS = (0.5, 1.0, 2.0)


class RCNN(keras.Model):
    """A two-stage detector.

    Calling it with preprocessed images float32 (B, H, W, C) and, where they are padded, their
    true ``sizes`` float32 (B, 2) (height, width) finds objects:

    - "boxes": float32 (B, D, 4), in pixels of the input, cut to its size.
    - "scores": float32 (B, D), by falling score.
    - "classes": int32 (B, D), from 0, the background left out.
    - "valid": bool (B, D), whether there is such an object.
    - "masks": float32 (B, D, M, M), probabilities inside the box, of a mask head.
    - "keypoints": float32 (B, D, K, 3), x, y and score, of a keypoint head.
    - "semantic": float32 (B, H, W, S), logits, of a panoptic network.

    The parts are public: a loss needs what lies between them.

    Args:
        trunk: images -> {level: map}.
        heads: "rpn", "mask", "keypoint", "semantic" where there are such; "res5" of a C4 network
            stands in front of the box predictor and the mask head.
        box_stages: of each stage that judges boxes its head, or None behind a "res5", and its
            predictor. Those of a cascade after the first judge what the one before has moved.
        num_classes: without the background.
        layout: how it looks at images.
        conventions: whose rules.
        thresholds: what is kept.
        box_weights: of each stage, of x, y, width and height in its offsets.
        mask_activation: "sigmoid", or "softmax" over the classes (Mask R-CNN, table 2b).
        panoptic: whether calling it gives the semantic head's logits too. A head without that is
            there to teach the trunk.

    Attributes:
        sampler_seed: what the choice of regions in training draws from.
    """

    def __init__(
        self,
        trunk: keras.Model,
        heads: Mapping[str, keras.Model],
        box_stages: Sequence[tuple[keras.Model | None, keras.Model]],
        *,
        num_classes: int,
        layout: Layout,
        conventions: Conventions,
        thresholds: Thresholds,
        box_weights: Sequence[tuple[float, float, float, float]],
        mask_activation: str = "sigmoid",
        panoptic: bool = False,
        name: str = "rcnn",
    ):
        super().__init__(name=name)
        self.trunk = trunk
        self.rpn_head = heads["rpn"]
        self.res5 = heads.get("res5")
        self.box_stages, self.box_weights = tuple(box_stages), tuple(box_weights)
        self.mask_head = heads.get("mask")
        self.keypoint_head = heads.get("keypoint")
        self.semantic_head = heads.get("semantic")
        self.num_classes, self.mask_activation = num_classes, mask_activation
        self.panoptic = panoptic
        self.layout, self.conventions, self.thresholds = layout, conventions, thresholds
        self.sampler_seed = keras.random.SeedGenerator()
        self.cells = [
            cell_anchors(sizes, RATIOS, stride, conventions.anchors)
            for sizes, stride in zip(layout.anchor_sizes, layout.strides, strict=True)
        ]
        self.built = True

    @property
    def parts(self) -> list[keras.Model]:
        """The functional models that it is made of."""
        found = (
            self.trunk,
            self.rpn_head,
            self.res5,
            *(part for stage in self.box_stages for part in stage),
            self.mask_head,
            self.keypoint_head,
            self.semantic_head,
        )
        return [part for part in found if part is not None]

    @property
    def layers(self) -> list[keras.layers.Layer]:
        """The layers of all parts, as a functional model would list them."""
        return [layer for part in self.parts for layer in part.layers]

    @property
    def inputs(self) -> list[Any]:
        """The images."""
        return self.trunk.inputs

    @property
    def size_divisor(self) -> int:
        """What the sides of its input had better be multiples of: a pyramid's maps must double."""
        return 32 if self.layout.roi_levels > 1 else 1

    @property
    def semantic_classes(self) -> int | None:
        """Of the semantic head, or None without one."""
        return None if self.semantic_head is None else self.semantic_head.output.shape[-1]

    def features(self, images: Any, training: bool = False) -> dict[str, Any]:
        """The trunk's maps, by level.

        Args:
            images: float32 (B, H, W, C), preprocessed.
        """
        return self.trunk(images, training=training)

    def rpn_outputs(self, features: dict[str, Any]) -> tuple[list[Any], list[Any]]:
        """Logits (B, h, w, A) and deltas (B, h, w, 4 * A) of each level."""
        outputs = [self.rpn_head(features[level]) for level in self.layout.levels]
        return [logits for logits, _ in outputs], [deltas for _, deltas in outputs]

    def anchors(self, features: dict[str, Any]) -> list[Any]:
        """The anchors of each level, (h * w * A, 4)."""
        layout = self.layout
        sizes = [ops.shape(features[level])[1:3] for level in layout.levels]
        strides: list[Any] = list(layout.strides)
        if self.conventions.anchors == "torchvision":
            # It divides the image by the map, which pooling may have rounded up.
            image = [side * layout.strides[0] for side in sizes[0]]
            strides = [(image[0] // height, image[1] // width) for height, width in sizes]
        return [
            grid_anchors(cell, size[0], size[1], stride)
            for cell, size, stride in zip(self.cells, sizes, strides, strict=True)
        ]

    def propose(
        self,
        logits: list[Any],
        deltas: list[Any],
        anchors: list[Any],
        sizes: Any,
        training: bool = False,
    ) -> tuple[Any, Any]:
        """The regions that the second stage looks at (Faster R-CNN, section 3.3; FPN, 4.1).

        The best anchors of each level are decoded, cut to the image, and freed of duplicates a
        level at a time; of all levels together the best are kept.

        Args:
            logits: of each level, (B, h, w, A).
            deltas: of each level, (B, h, w, 4 * A).
            anchors: of each level, (h * w * A, 4).
            sizes: float32 (B, 2), height and width.
            training: keep as many as training needs.

        Returns:
            boxes float32 (B, P, 4) by falling score, and valid bool (B, P).
        """
        return self.scored_proposals(logits, deltas, anchors, sizes, training)[:2]

    def scored_proposals(
        self,
        logits: list[Any],
        deltas: list[Any],
        anchors: list[Any],
        sizes: Any,
        training: bool = False,
    ) -> tuple[Any, Any, Any]:
        """As `propose`, with the logits float32 (B, P)."""
        index = 0 if training else 1
        keep = self.thresholds
        return best_proposals(
            logits,
            deltas,
            anchors,
            sizes,
            before=keep.pre_nms[index],
            after=keep.post_nms[index],
            overlap=keep.proposal_nms,
            least=self.conventions.min_proposal_size,
        )

    def pooled(self, features: dict[str, Any], boxes: Any, size: int) -> Any:
        """The features of boxes (B, R, 4), flattened to (B * R, size, size, C)."""
        layout, rules = self.layout, self.conventions
        maps = [features[level] for level in layout.levels[: layout.roi_levels]]
        first = levels = ops.zeros(ops.shape(boxes)[:2], "int32")
        if len(maps) > 1 and layout.roi_fusion == "none":
            levels = pyramid_levels(boxes, 2, 1 + len(maps), rules.level_epsilon)
        if rules.inclusive:
            boxes = boxes - ops.convert_to_tensor([0.0, 0.0, 1.0, 1.0])
        pool = functools.partial(
            pool_regions,
            boxes=boxes,
            size=size,
            op=layout.roi_op,
            sampling_ratio=layout.sampling_ratio,
            aligned=rules.aligned,
            reduce=layout.roi_reduce,
        )
        if layout.roi_fusion == "none":
            regions = pool(maps, layout.strides[: layout.roi_levels], levels=levels)
        else:
            fuse = ops.maximum if layout.roi_fusion == "max" else ops.add
            regions = functools.reduce(
                fuse,
                (
                    pool([map_], [stride], levels=first)
                    for map_, stride in zip(maps, layout.strides, strict=False)
                ),
            )
        return ops.reshape(regions, (-1, size, size, maps[0].shape[-1]))

    def box_outputs(
        self, features: dict[str, Any], boxes: Any, training: bool = False, stage: int = 0
    ) -> tuple[Any, Any, Any]:
        """A stage's judgement of regions.

        Args:
            features: as `features` gives them.
            boxes: float32 (B, R, 4).
            training: of the layers.
            stage: of a cascade.

        Returns:
            class logits (B, R, K + 1); deltas (B, R, C, 4), C the classes that have offsets of
            their own, the background among them in torchvision's and Detectron's style, or 1; and
            the region features that the mask head shares in a C4 network, (B, R, s, s, 2048), or
            None.
        """
        batch, shared = ops.shape(boxes)[0], None
        head, predictor = self.box_stages[stage]
        regions = self.pooled(features, boxes, self.layout.box_size)
        if len(self.box_stages) > 1:
            # All stages teach the trunk, as much together as one would alone.
            share = 1 / len(self.box_stages)
            regions = share * regions + (1 - share) * ops.stop_gradient(regions)
        if self.res5 is not None:
            regions = self.res5(regions, training=training)
            shared = ops.reshape(regions, (batch, -1, *regions.shape[1:]))
            vectors = ops.mean(regions, axis=(1, 2))
        else:
            assert head is not None
            vectors = head(regions, training=training)
        logits, deltas = predictor(vectors)
        return (
            ops.reshape(logits, (batch, -1, logits.shape[-1])),
            ops.reshape(deltas, (batch, -1, deltas.shape[-1] // 4, 4)),
            shared,
        )

    def moved(self, deltas: Any, boxes: Any, sizes: Any, stage: int) -> Any:
        """Where a stage that is not the last moves its regions to, (B, R, 4), cut to the image.

        Nothing is learnt through it: the next stage takes its regions as they are. A box that is
        not finite becomes one without area.

        Args:
            deltas: (B, R, 1, 4), the stage's.
            boxes: (B, R, 4).
            sizes: float32 (B, 2).
            stage: which.
        """
        boxes = decode(deltas[:, :, 0], boxes, self.box_weights[stage])
        finite = ops.all(ops.isfinite(boxes), axis=-1, keepdims=True)
        return ops.stop_gradient(clip(ops.where(finite, boxes, 0.0), sizes))

    def mask_outputs(
        self, features: dict[str, Any], boxes: Any, shared: Any = None, training: bool = False
    ) -> Any:
        """Mask logits of regions, (B, R, M, M, masks).

        Args:
            features: as `features` gives them.
            boxes: float32 (B, R, 4).
            shared: the features of these very boxes, if `box_outputs` has given them.
        """
        assert self.mask_head is not None
        if shared is not None:
            regions = ops.reshape(shared, (-1, *shared.shape[2:]))
        elif self.res5 is not None:
            regions = self.res5(
                self.pooled(features, boxes, self.layout.box_size), training=training
            )
        else:
            regions = self.pooled(features, boxes, self.layout.mask_size)
        logits = self.mask_head(regions, training=training)
        return ops.reshape(logits, (ops.shape(boxes)[0], -1, *logits.shape[1:]))

    def keypoint_outputs(self, features: dict[str, Any], boxes: Any, training: bool = False) -> Any:
        """Keypoint heat maps of regions, logits (B, R, 56, 56, K); see `mask_outputs`."""
        assert self.keypoint_head is not None
        regions = self.pooled(features, boxes, self.layout.mask_size)
        logits = self.keypoint_head(regions, training=training)
        return ops.reshape(logits, (ops.shape(boxes)[0], -1, *logits.shape[1:]))

    def candidates(
        self, features: dict[str, Any], proposals: Any, valid: Any, sizes: Any
    ) -> dict[str, Any]:
        """The judged proposals, before any suppresses another.

        A cascade's stages have the mean of their scores, and the last stage's boxes (Cascade
        R-CNN, section 4).

        Args:
            features: as `features` gives them.
            proposals: (B, R, 4).
            valid: bool (B, R).
            sizes: float32 (B, 2).

        Returns:
            See `tfseg.models.rcnn.selection.candidates`.
        """
        boxes = proposals
        logits, deltas, _ = self.box_outputs(features, boxes)
        scores = [ops.softmax(logits)]
        for stage in range(1, len(self.box_stages)):
            boxes = self.moved(deltas, boxes, sizes, stage - 1)
            logits, deltas, _ = self.box_outputs(features, boxes, stage=stage)
            scores.append(ops.softmax(logits))
        return self.ranked(sum(scores) / len(scores), deltas, boxes, valid, sizes)

    def ranked(
        self, scores: Any, deltas: Any, boxes: Any, valid: Any, sizes: Any
    ) -> dict[str, Any]:
        """The best pairs of region and class of the last stage's judgement; see `candidates`.

        Args:
            scores: (B, R, K + 1), probabilities.
            deltas: (B, R, C, 4).
            boxes: (B, R, 4), which the deltas move.
            valid: bool (B, R).
            sizes: float32 (B, 2).
        """
        rules = self.conventions
        if rules.background_first and deltas.shape[2] > 1:
            deltas = deltas[:, :, 1:]
        return candidates(
            scores[..., 1:] if rules.background_first else scores[..., :-1],
            decode(deltas, boxes[:, :, None], self.box_weights[-1]),
            valid,
            sizes,
            score=self.thresholds.score,
            least=rules.min_detection_size,
        )

    def detections(self, found: dict[str, Any]) -> dict[str, Any]:
        """The objects among candidates: "boxes", "scores", "classes", "valid"; see the class."""
        return detections(found, self.thresholds)

    def search(self, images: Any, sizes: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The features of images (B, H, W, C), and the candidates among their regions."""
        features = self.features(images)
        proposals, valid = self.propose(
            *self.rpn_outputs(features), self.anchors(features), sizes, training=False
        )
        return features, self.candidates(features, proposals, valid, sizes)

    def call(self, images: Any, sizes: Any = None, training: bool = False) -> dict[str, Any]:
        """Finds objects; see the class. A loss makes it learn: ``training`` changes nothing."""
        images = ops.convert_to_tensor(images)
        if sizes is None:
            batch, height, width = ops.shape(images)[:3]
            size = ops.cast(ops.stack([height, width]), "float32")
            sizes = ops.broadcast_to(size, (batch, 2))
        features, found = self.search(images, sizes)
        found = self.detections(found)
        return found | self.describe(features, found, images)

    def describe(
        self, features: dict[str, Any], found: dict[str, Any], images: Any
    ) -> dict[str, Any]:
        """Masks, keypoints and semantic logits beside the objects that were found."""
        boxes, valid, outputs = found["boxes"], found["valid"], {}
        if self.mask_head is not None:
            masks = self.mask_probabilities(features, boxes, found["classes"])
            outputs["masks"] = ops.where(valid[..., None, None], masks, 0.0)
        if self.keypoint_head is not None:
            heatmaps = self.keypoint_outputs(features, boxes)
            outputs["keypoints"] = self.keypoints(heatmaps, boxes, valid)
        if self.panoptic:
            outputs["semantic"] = self.semantic_outputs(features, images)
        return outputs

    def mask_probabilities(self, features: dict[str, Any], boxes: Any, classes: Any) -> Any:
        """The masks of boxes (B, R, 4) of classes (B, R), float32 (B, R, M, M)."""
        logits = self.mask_outputs(features, boxes)
        if self.mask_activation == "softmax":
            probabilities = ops.softmax(logits)
        else:
            probabilities = ops.sigmoid(logits)
        if logits.shape[-1] == 1:
            return probabilities[..., 0]
        if self.conventions.background_first:
            classes = classes + 1
        index = classes[:, :, None, None, None]
        return ops.take_along_axis(probabilities, index, axis=-1)[..., 0]

    def keypoints(self, heatmaps: Any, boxes: Any, valid: Any) -> Any:
        """The keypoints of heat maps (B, R, S, S, K) of boxes (B, R, 4), (B, R, K, 3)."""
        batch, number = ops.shape(heatmaps)[:2]
        torchvision = self.conventions.style == "torchvision"
        points = decode_keypoints(
            ops.reshape(heatmaps, (-1, *heatmaps.shape[2:])),
            ops.reshape(boxes, (-1, 4)),
            ops.reshape(valid, (-1,)),
            convention="torchvision" if torchvision else "detectron2",
        )
        return ops.reshape(points, (batch, number, -1, 3))

    def semantic_outputs(
        self, features: dict[str, Any], images: Any, training: bool = False
    ) -> Any:
        """Logits of each pixel, float32 (B, H, W, S).

        Args:
            features: as `features` gives them.
            images: the input, whose size the logits take.
        """
        assert self.semantic_head is not None
        seen = {name: features[name] for name in self.semantic_head.input}
        logits = self.semantic_head(seen, training=training)
        height, width = ops.shape(images)[1:3]
        return logits[:, :height, :width]
