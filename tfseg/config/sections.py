"""The sections of an experiment file."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from tfseg.config.base import Section
from tfseg.config.detection import Detect, RCNNTraining


class Model(Section):
    """Which network, and where its weights come from.

    ``weights_partial`` and ``backbone_partial`` leave layers that the file lacks as initialised.
    ``fresh``: a stage of several starts from these files, not from the stage before.
    """

    name: str
    num_classes: int = Field(gt=0)
    options: dict[str, Any] = {}
    weights: Path | None = None
    weights_origin: str | None = None
    skip_heads: bool = False
    weights_partial: bool = False
    backbone_weights: Path | None = None
    backbone_origin: str | None = None
    backbone_partial: bool = False
    fresh: bool = False


class Split(Section):
    """One split of a data set: a registered reader and its options.

    ``proposals``: a file of COCO's results, from whose boxes, the best ``max_proposals`` of each
    image, a detector's heads learn, not from those that it proposes itself.
    """

    reader: str
    options: dict[str, Any] = {}
    proposals: Path | None = None
    max_proposals: int = Field(1000, gt=0)


class Data(Section):
    """What is read and how it is augmented.

    ``transforms`` is a list of one-key mappings ``{name: {option: value}}``, applied in order
    to the training split. For detectors, whose images differ in size, ``buckets`` are the
    (height, width) that batches are padded to, or else multiples of ``divisor``.
    ``semantic_labels``: what a detector's semantic branch learns, "instances" or "masks"; see
    `tfseg.data.semantic_labels`.
    """

    train: Split
    validation: Split | None = None
    transforms: list[dict[str, dict[str, Any]]] = []
    ignore_label: int = 255
    semantic_labels: Literal["instances", "masks"] | None = None
    buckets: list[tuple[int, int]] | None = None
    divisor: int = Field(32, gt=0)
    cache: Literal["none", "memory", "disk"] = "none"

    @model_validator(mode="after")
    def _one_key_each(self) -> Self:
        for index, transform in enumerate(self.transforms):
            if len(transform) != 1:
                raise ValueError(f"transforms.{index} must have one key, has {sorted(transform)}")
        return self


class Optimizer(Section):
    """The update rule. ``learning_rate`` is that of the backbone's kernels.

    Biases have it times ``bias_multiplier`` (2 in Caffe's networks); layers outside the backbone
    times ``head_multiplier``, or their biases ``head_bias_multiplier`` where it is set. Kernels
    decay, biases (``decay_bias``, as in detectron2) and norms (``decay_norm``) only where asked.
    """

    name: Literal["sgd", "adam", "adamw", "nadam"] = "sgd"
    learning_rate: float = Field(gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = False
    beta_1: float = Field(0.9, ge=0, lt=1)
    beta_2: float = Field(0.999, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0)
    decay_bias: bool = False
    decay_norm: bool = False
    bias_multiplier: float = Field(1.0, gt=0)
    head_multiplier: float = Field(1.0, gt=0)
    head_bias_multiplier: float | None = Field(None, gt=0)
    clip_norm: float | None = Field(None, gt=0)
    ema_decay: float | None = Field(None, gt=0, lt=1)


class Schedule(Section):
    """The learning rate's course over ``train.steps``, as a factor of the optimizer's rate."""

    name: Literal["constant", "poly", "step"] = "constant"
    power: float = Field(0.9, gt=0)
    milestones: list[int] = []
    gamma: float = Field(0.1, gt=0)
    warmup_steps: int = Field(0, ge=0)
    warmup_factor: float = Field(1 / 3, ge=0, le=1)


class Loss(Section):
    """A loss of softmax probabilities, or of a sigmoid's, over labelled pixels.

    ``reduction``: "mean" divides by the labelled pixels of the global batch, "sum" does not
    (FCN's unnormalised loss). ``pixel_weights`` multiplies by the sample's weight map.
    ``label_stride`` keeps every so many rows and columns of labels and logits: DeepLab's loss on
    its score map, with 8. ``aux_weight`` is that of each output beside the logits.
    """

    name: Literal["cross_entropy", "mean_absolute_error"] = "cross_entropy"
    reduction: Literal["mean", "sum"] = "mean"
    class_weights: list[float] | None = None
    pixel_weights: bool = False
    label_stride: int = Field(1, gt=0)
    aux_weight: float = Field(0.4, ge=0)


class Train(Section):
    """Length, batch, precision and bookkeeping of a run. ``batch_size`` is the global batch.

    ``strategy``: "one" device, "mirrored" over all of this host's, or "multi_worker", over those
    of all hosts that ``TF_CONFIG`` names; see `tfseg.train.workers`.
    ``reference_batch`` is the batch that learning rate, steps, milestones, warm-up and
    ``validate_every`` are meant for: with another one they are scaled; see `tfseg.config.scaled`.
    ``frozen``: shell patterns of the names of layers that do not train.
    ``batch_statistics``: after the last step those of the batch norms in the last weights are
    measured anew, over so many batches. ``best_metric``, of which higher is better, chooses the
    best weights; by default the task's own. ``rcnn`` takes the place of ``loss`` for detectors.
    """

    steps: int = Field(gt=0)
    batch_size: int = Field(gt=0)
    reference_batch: int | None = Field(None, gt=0)
    accumulate: int = Field(1, gt=0)
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    strategy: Literal["one", "mirrored", "multi_worker"] = "one"
    jit_compile: bool = False
    validate_every: int | None = Field(None, gt=0)
    checkpoint_every: int | None = Field(None, gt=0)
    keep_checkpoints: int = Field(3, gt=0)
    log_every: int = Field(20, gt=0)
    best_metric: str | None = None
    frozen: list[str] = []
    batch_statistics: int | None = Field(None, gt=0)
    optimizer: Optimizer
    schedule: Schedule = Schedule()
    loss: Loss = Loss()
    rcnn: RCNNTraining = RCNNTraining()


class CRF(Section):
    """The dense CRF behind a prediction; see `tfseg.predict.DenseCRF` for the parameters.

    ``preset`` names a publication's; values given beside it replace its own.
    """

    preset: str | None = None
    gaussian_sigma: float | None = Field(None, gt=0)
    gaussian_weight: float | None = Field(None, ge=0)
    bilateral_sigma_xy: float | None = Field(None, gt=0)
    bilateral_sigma_rgb: float | None = Field(None, gt=0)
    bilateral_weight: float | None = Field(None, ge=0)
    iterations: int | None = Field(None, gt=0)
    compatibility: list[list[float]] | None = None
    normalization: Literal["symmetric", "after"] | None = None

    @model_validator(mode="before")
    @classmethod
    def _preset_alone(cls, value: Any) -> Any:
        return {"preset": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _complete(self) -> Self:
        kernels = ("gaussian_", "bilateral_")
        needed = [key for key in type(self).model_fields if key.startswith(kernels)]
        missing = [key for key in needed if getattr(self, key) is None]
        if self.preset is None and missing:
            raise ValueError(f"crf needs a preset or {', '.join(missing)}")
        return self


class Proposals(Section):
    """DeconvNet's prediction on object proposals; see `tfseg.predict.proposals`.

    ``edge_boxes`` is the file of OpenCV's structured edge detection model.
    """

    edge_boxes: Path
    max_proposals: int = Field(50, gt=0)
    min_side: int = Field(112, gt=0)


class Predict(Section):
    """How images become predictions, in validation, evaluation and on the command line.

    ``crop_size`` is (height, width) of a sliding window; ``stride_rate`` is its step as a
    fraction of the crop. ``tile_size`` is the (height, width) of the *output* of an overlap tile.
    ``freeze`` makes weights constants: faster for many images on a CPU; validation ignores it.
    ``mirror_margin`` continues the image by so many mirrored pixels on each side for a prediction
    that is then cut.
    ``proposals`` predicts on object proposals instead of the whole image.
    ``label_boost`` is the factor of -log p(label), which raises rare labels; p is counted from
    the training labels. ``crf`` refines the probabilities. Validation leaves out both.
    """

    mode: Literal["whole", "sliding", "overlap_tile"] = "whole"
    scales: list[float] = [1.0]
    flip: bool = False
    rotations: bool = False
    base_size: int | None = Field(None, gt=0)
    crop_size: tuple[int, int] | None = None
    stride_rate: float = Field(2 / 3, gt=0, le=1)
    tile_size: tuple[int, int] | None = None
    mirror_margin: int = Field(0, ge=0)
    batch_size: int = Field(1, gt=0)
    freeze: bool = False
    proposals: Proposals | None = None
    label_boost: float = Field(0.0, ge=0, le=1)
    crf: CRF | None = None

    @model_validator(mode="after")
    def _proposals_alone(self) -> Self:
        taken = {"proposals", "batch_size", "freeze", "label_boost", "crf"}
        fields = type(self).model_fields.items()
        others = [k for k, f in fields if k not in taken and getattr(self, k) != f.default]
        if self.proposals is not None and others:
            raise ValueError(f"proposals cannot be combined with {', '.join(others)}")
        return self


class Metrics(Section):
    """Which scores `tfseg evaluate` computes: confusion-matrix scores always, others on demand.

    ``boundary_class`` is the label of the membrane in EM data. ``seg`` is the Cell Tracking
    Challenge's score of the objects that the classes beside 0 form; those of ``seg_min_area``
    pixels or fewer are dropped. ``cocostuff`` is the eight scores of COCO's stuff challenge.
    Detectors have COCO's average precision instead of all these, by ``evaluator``;
    ``keypoint_sigmas`` are those of keypoints other than COCO's 17.
    """

    em: bool = False
    boundary_class: int = Field(0, ge=0)
    seg: bool = False
    seg_min_area: int = Field(0, ge=0)
    cocostuff: bool = False
    evaluator: Literal["auto", "pycocotools", "hotcoco"] = "pycocotools"
    keypoint_sigmas: list[float] | None = None


class Experiment(Section):
    """A whole experiment file."""

    name: str
    seed: int = Field(0, ge=0)
    model: Model
    data: Data
    train: Train
    predict: Predict = Predict()
    detect: Detect = Detect()
    metrics: Metrics = Metrics()


class Stage(Section):
    """One of several trainings that one file describes, each starting from the last one's end.

    ``set`` holds dotted keys of the experiment and their values in this stage.
    """

    name: str = Field(pattern=r"^[\w.-]+$")
    set: dict[str, Any] = {}
