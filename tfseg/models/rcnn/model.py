"""Faster, Mask, Keypoint and Cascade R-CNN: two or more stages, from images to objects.

Ren, He, Girshick, Sun, Faster R-CNN, 2015; Lin et al., Feature Pyramid Networks, 2017; He,
Gkioxari, Dollár, Girshick, Mask R-CNN, ICCV 2017; Cai, Vasconcelos, Cascade R-CNN, CVPR 2018.
Sizes are fixed throughout: what there is less of is filled up and marked as not valid.
"""

from typing import Any

from keras import ops

from tfseg.models.rcnn.parts import RCNNParts
from tfseg.models.rcnn.selection import best_proposals, candidates, detections
from tfseg.ops.boxes import clip, decode
from tfseg.ops.keypoints import decode_keypoints


class RCNN(RCNNParts):
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

    What it is made of, `RCNNParts` tells.
    """

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
