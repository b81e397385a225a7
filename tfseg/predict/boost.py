"""A boost of rare labels."""

from collections.abc import Sequence

import numpy as np

from tfseg.predict.predictor import ImagePredictor, Progress


class BoostedPredictor:
    """A predictor whose result is made of ``log p(label | image) - alpha log p(label)``.

    Thus COCO-Stuff's winner of 2017 raised the scores of rare labels (Kirillov et al., slides).
    p(label) is the label's share of the training pixels. A class that has none there gets no
    boost, as if it were all there is: the network has never learned what it looks like.

    Attributes:
        network: the predictor's.
        num_classes: channels of the result.
    """

    def __init__(self, predictor: ImagePredictor, pixels: Sequence[int] | np.ndarray, alpha: float):
        """Takes any predictor of semantic models.

        Args:
            predictor: what predicts.
            pixels: each class's pixels in the training labels.
            alpha: the strength; 0 changes nothing, 1 divides by p(label).

        Raises:
            ValueError: not one count a class, negative ones, none above 0, alpha out of 0..1.
        """
        counts = np.asarray(pixels, np.float64)
        if counts.shape != (predictor.num_classes,):
            raise ValueError(
                f"{counts.size} counts of labels for the model's {predictor.num_classes} classes"
            )
        if counts.min() < 0 or counts.max() == 0:
            raise ValueError("counts of labels must not be negative, nor all of them 0")
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha must lie in 0..1, not {alpha}")
        self.network, self.num_classes = predictor.network, predictor.num_classes
        self._predictor = predictor
        share = np.where(counts > 0, counts / counts.sum(), 1.0)
        self._factors = (share**-alpha).astype(np.float32)

    def __call__(self, image: np.ndarray, progress: Progress | None = None) -> np.ndarray:
        """The boosted class probabilities of one image; see `Predictor.__call__`."""
        boosted = self._predictor(image, progress) * self._factors
        boosted /= boosted.sum(-1, keepdims=True)
        return boosted
