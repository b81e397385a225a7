"""DeconvNet's inference: the network on object proposals, their scores put together.

Noh, Hong, Han, Learning Deconvolution Network for Semantic Segmentation, ICCV 2015, section 4.3;
what the paper leaves open, and where it differs, is as in the authors' release
(inference/generate_EDeconvNet_CRF_results.m, preprocess_image_bb.m, cache_FCN8s_results.m).
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from scipy.special import softmax
from tqdm import tqdm

from tfseg.data.io import read_image
from tfseg.data.windows import context_windows, cut_window, inner
from tfseg.predict import views
from tfseg.predict.graph import WholeImage
from tfseg.predict.predictor import Progress, check_image
from tfseg.registry import Preprocessing

#: uint8 (H, W, 3) -> float (N, 4) boxes xyxy in absolute continuous pixels, best first
Proposals = Callable[[np.ndarray], np.ndarray]


def edge_boxes(model_path: str | Path, count: int = 2000) -> Proposals:
    """EdgeBoxes proposals (Zitnick and Dollár, ECCV 2014) of OpenCV's ximgproc.

    Args:
        model_path: the structured forest of edges that OpenCV reads (model.yml.gz); it comes
            neither with OpenCV nor with tfseg.
        count: boxes an image: about 2000 in the paper, of which the best 50 are used.

    Returns:
        A function that gives the proposals of an image.

    Raises:
        ImportError: if OpenCV or its contributed modules are missing.
        FileNotFoundError: if there is no such file.
    """
    try:
        from cv2 import ximgproc
    except ImportError as e:
        raise ImportError(
            "EdgeBoxes needs OpenCV with its contributed modules: pip install 'tfseg[proposals]' "
            "(uninstall other OpenCV packages first, which provide the same module)"
        ) from e
    if not Path(model_path).is_file():
        raise FileNotFoundError(
            f"{model_path} is missing: EdgeBoxes needs a structured edge detection model "
            "(model.yml.gz)"
        )
    edges_of = ximgproc.createStructuredEdgeDetection(str(model_path))

    def propose(image: np.ndarray) -> np.ndarray:
        colored = np.broadcast_to(image, (*image.shape[:2], 3)).astype(np.float32)
        edges = edges_of.detectEdges(colored / 255)
        orientation = edges_of.computeOrientation(edges)
        thin = edges_of.edgesNms(edges, orientation)
        boxes, scores = ximgproc.createEdgeBoxes(maxBoxes=count).getBoundingBoxes(thin, orientation)
        if len(boxes) == 0:
            return np.zeros((0, 4), np.float32)
        order = np.argsort(-np.ravel(scores), kind="stable")
        x, y, width, height = np.asarray(boxes, np.float32)[order].T
        return np.stack([x, y, x + width, y + height], axis=1)

    return propose


def save_proposals(
    images: Sequence[str | Path], proposals: Proposals, path: str | Path, *, progress: bool = True
) -> None:
    """Writes the proposals of image files into one .npz file, for the reader "voc_proposals".

    Args:
        images: image files.
        proposals: gives an image's boxes.
        path: of the file; each image's float32 (N, 4) boxes are called by its name without suffix.
        progress: show a progress bar.

    Raises:
        DataError: for an image that cannot be read.
    """
    bar = tqdm([Path(image) for image in images], unit="image", disable=not progress)
    boxes: dict[str, Any] = {
        p.stem: np.asarray(proposals(read_image(p)), np.float32).reshape(-1, 4) for p in bar
    }
    np.savez_compressed(path, **boxes)


class ProposalPredictor:
    """Class probabilities of an image from a network's scores of its object proposals.

    Each proposal's window (a square with context) is cut out, black where it leaves the image,
    resized to the network's input, and its raw scores are resized back. The image's score of a
    class and pixel is the maximum over the windows that cover it and 0: scores are put into a
    canvas that starts at zero, so negative ones count as 0. Probabilities are the softmax of
    that; where no window was, all classes are equal, and `argmax` takes the first, background.

    The release reads its canvas one pixel further up and to the left than it wrote it; here
    scores stay where they belong.

    Attributes:
        network: the model as a `WholeImage`.
        num_classes: channels of the result.
    """

    def __init__(
        self,
        model: keras.Model,
        preprocessing: Preprocessing,
        proposals: Proposals,
        *,
        max_proposals: int = 50,
        min_side: int = 112,
        context: float = 1.2,
        input_size: int = 224,
        batch_size: int = 1,
        freeze: bool = False,
    ):
        """Checks the options.

        Args:
            model: a semantic model; see `WholeImage`.
            preprocessing: the model's.
            proposals: gives an image's boxes, best first: `edge_boxes`, or any other function.
            max_proposals: how many are used at most.
            min_side: windows whose side is less are skipped, and do not count.
            context: see `tfseg.data.windows.context_windows`.
            input_size: height and width that windows are resized to.
            batch_size: windows predicted at once.
            freeze: see `WholeImage.freeze`; worth it for many images on a CPU.

        Raises:
            ValueError: an option that is not positive, or a model that does not fit.
        """
        sizes = {"max_proposals": max_proposals, "min_side": min_side, "batch_size": batch_size}
        for name, value in {**sizes, "context": context, "input_size": input_size}.items():
            if value <= 0:
                raise ValueError(f"{name} must be positive, not {value!r}")
        self.network = WholeImage(model, preprocessing)
        self.network.output_size(input_size, input_size)
        self.num_classes = self.network.num_classes
        self._proposals, self._context, self._batch_size = proposals, context, batch_size
        self._max_proposals, self._min_side = max_proposals, min_side
        self._input_size = (input_size, input_size)
        if freeze:
            self.network.freeze()

    def __call__(self, image: np.ndarray, progress: Progress | None = None) -> np.ndarray:
        """The class probabilities of one image.

        Args:
            image: uint8 (H, W, 3) RGB or (H, W, 1) gray.
            progress: called after each batch of windows.

        Returns:
            float32 (H, W, num_classes), summing to 1 over the classes.

        Raises:
            ValueError: if the image or what ``proposals`` gives has another dtype or shape.
        """
        probabilities: np.ndarray = softmax(self.scores(image, progress), axis=-1)
        return probabilities

    def scores(self, image: np.ndarray, progress: Progress | None = None) -> np.ndarray:
        """As calling it, the aggregated scores before the softmax; none is negative."""
        check_image(image)
        windows = self._windows(image)
        canvas = np.zeros((*image.shape[:2], self.num_classes), np.float32)
        done = 0
        for batch in views.batches(windows, self._batch_size):
            crops = [cut_window(image, window).astype(np.float32) for window in batch]
            inputs = np.stack([views.resize_bilinear(crop, self._input_size) for crop in crops])
            outputs = self.network.forward(self.network.prepare(inputs)).numpy()
            for window, output in zip(batch, outputs, strict=True):
                _aggregate(canvas, window, output)
            done += len(batch)
            if progress is not None:
                progress(done, len(windows))
        return canvas

    def _windows(self, image: np.ndarray) -> np.ndarray:
        boxes = np.asarray(self._proposals(image))
        if boxes.size == 0:
            return np.zeros((0, 4), np.int32)
        if boxes.ndim != 2 or boxes.shape[1] != 4 or not np.isfinite(boxes).all():
            raise ValueError(
                "proposals must be finite boxes (N, 4), x1 y1 x2 y2 in pixels, these are "
                f"{boxes.dtype} {boxes.shape}"
            )
        if (boxes[:, 2:] <= boxes[:, :2]).any():
            raise ValueError("proposals must have x1 < x2 and y1 < y2; are they x y width height?")
        windows = context_windows(boxes, self._context)
        large: np.ndarray = windows[windows[:, 2] - windows[:, 0] >= self._min_side]
        return large[: self._max_proposals]


def _aggregate(canvas: np.ndarray, window: np.ndarray, scores: np.ndarray) -> None:
    """Raises the canvas (H, W, C) to a window's scores (h, w, C) where they are higher."""
    x1, y1, x2, y2 = (int(v) for v in window)
    resized = views.resize_bilinear(scores, (y2 - y1, x2 - x1))
    left, top, right, bottom = inner(window, canvas.shape[:2])
    place = canvas[top:bottom, left:right]
    np.maximum(place, resized[top - y1 : bottom - y1, left - x1 : right - x1], out=place)


class EDeconvNet:
    """DeconvNet's scores times FCN-8s' positive ones, and their softmax.

    So is the released ensemble: the product of DeconvNet's aggregated raw scores and of FCN-8s'
    raw scores with negative ones as 0. The paper (section 4.3.2) describes the mean of the two
    probability maps. The result is what the release gives to its dense CRF.

    Attributes:
        num_classes: channels of the result.
    """

    def __init__(
        self,
        deconvnet: ProposalPredictor,
        fcn: keras.Model,
        preprocessing: Preprocessing,
        *,
        canvas: int = 500,
    ):
        """Checks that the two networks have the same classes.

        Args:
            deconvnet: DeconvNet on proposals.
            fcn: FCN-8s; its scores have its input's size.
            preprocessing: FCN-8s'.
            canvas: FCN-8s sees the image in the upper left of a square of this side, the rest
                of which is zero after preprocessing; larger images as they are.

        Raises:
            ValueError: if the numbers of classes differ.
        """
        self._deconvnet, self._canvas = deconvnet, canvas
        self._fcn = WholeImage(fcn, preprocessing)
        self.num_classes = deconvnet.num_classes
        if self._fcn.num_classes != self.num_classes:
            raise ValueError(
                f"DeconvNet has {self.num_classes} classes, {fcn.name!r} {self._fcn.num_classes}"
            )

    def __call__(self, image: np.ndarray, progress: Progress | None = None) -> np.ndarray:
        """The class probabilities of one image; see `ProposalPredictor`."""
        probabilities: np.ndarray = softmax(self.scores(image, progress), axis=-1)
        return probabilities

    def scores(self, image: np.ndarray, progress: Progress | None = None) -> np.ndarray:
        """The products of scores, float32 (H, W, num_classes); none is negative."""
        deconvolved = self._deconvnet.scores(image, progress)
        product: np.ndarray = deconvolved * np.maximum(self._fcn_scores(image), 0)
        return product

    def _fcn_scores(self, image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        below, right = (max(0, self._canvas - side) for side in (height, width))
        prepared = self._fcn.prepare(image[None])
        prepared = tf.pad(prepared, ((0, 0), (0, below), (0, right), (0, 0)))
        scores: np.ndarray = self._fcn.forward(prepared).numpy()
        return scores[0, :height, :width]
