"""Prediction of images that continue beyond their border."""

import numpy as np

from tfseg.predict.predictor import ImagePredictor, Progress


class MirroredPredictor:
    """A predictor of mirrored surroundings too, so that borders are seen as the inside is.

    FusionNet's Deploy_full.py: 64 pixels on each side.

    Attributes:
        network: the predictor's.
        num_classes: classes of the result.
    """

    def __init__(self, predictor: ImagePredictor, margin: int):
        """Takes any predictor.

        Args:
            predictor: what predicts.
            margin: pixels added on each side, the edge not repeated; positive.
        """
        self.network, self.num_classes = predictor.network, predictor.num_classes
        self._predictor, self._margin = predictor, margin

    def __call__(self, image: np.ndarray, progress: Progress | None = None) -> np.ndarray:
        """The class probabilities of one image; see `Predictor.__call__`."""
        side = (self._margin, self._margin)
        larger = np.pad(image, (side, side, (0, 0)), mode="reflect")
        inner = slice(self._margin, -self._margin)
        return self._predictor(larger, progress)[inner, inner]
