"""What an R-CNN is made of, and what its parts say of images and regions."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Self

import keras
from keras import ops

from tfseg.layers.fold import fold_norms
from tfseg.models.rcnn.conventions import Conventions
from tfseg.models.rcnn.layout import Layout, Thresholds
from tfseg.ops.anchors import cell_anchors, grid_anchors
from tfseg.ops.resize import window
from tfseg.ops.roi import pool_regions, pyramid_levels

RATIOS = (0.5, 1.0, 2.0)


class RCNNParts(keras.Model):
    """The parts of an R-CNN. They are public: a loss needs what lies between them.

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

    def folded(self) -> Self:
        """The same detector for inference, its norms folded; see `tfseg.layers.fold_norms`."""
        heads = {
            "rpn": self.rpn_head,
            "res5": self.res5,
            "mask": self.mask_head,
            "keypoint": self.keypoint_head,
            "semantic": self.semantic_head,
        }
        return type(self)(
            fold_norms(self.trunk),
            {name: fold_norms(head) for name, head in heads.items() if head is not None},
            [
                (None if head is None else fold_norms(head), fold_norms(predictor))
                for head, predictor in self.box_stages
            ],
            num_classes=self.num_classes,
            layout=self.layout,
            conventions=self.conventions,
            thresholds=self.thresholds,
            box_weights=self.box_weights,
            mask_activation=self.mask_activation,
            panoptic=self.panoptic,
            name=self.name,
        )

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
        return window(logits, 0, 0, height, width)
