"""A training run: model, data and step, with what happens between the steps."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfseg import config
from tfseg.train.checkpoints import Best, Checkpoints, claim_run_dir, write_whole
from tfseg.train.distribute import distribute, make_strategy, part_random_states
from tfseg.train.ema import WeightAverage
from tfseg.train.interrupts import SIGNALS, Interrupts
from tfseg.train.logs import RunLog, Stopwatch
from tfseg.train.optimizers import UpdateRule
from tfseg.train.precision import LossScale, building_in
from tfseg.train.schedules import make_schedule
from tfseg.train.step import Loss, Progress, TrainStep
from tfseg.train.workers import Council, WorkerLost, is_chief, losses_told


class NonFiniteLoss(ArithmeticError):
    """The loss or its gradient was infinite or not a number.

    Attributes:
        step: the step, counted from 0, that is, the index of its batch.
        names: the names of the batch's samples; empty if they have none.
    """

    def __init__(self, step: int, names: list[str], loss: float, norm: float, folder: Path):
        self.step, self.names = step, names
        super().__init__(
            f"at step {step} (counted from 0) the loss is {loss} and its gradient's norm {norm}, "
            f"on the samples {', '.join(names) or 'without names'}. That update was not applied; "
            f"the state before it is saved in {folder}. Look at these samples' labels, or lower "
            "the learning rate"
        )


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        step: finished steps, those before a resumption included.
        interrupted: the name of the signal that stopped it, or None.
        best: the highest validation score, or None without validation.
    """

    step: int
    interrupted: str | None
    best: float | None


def _check(train: config.Train, replicas: int) -> None:
    if train.batch_size % (replicas * train.accumulate):
        raise ValueError(
            f"batch_size {train.batch_size} cannot be split evenly into {replicas} replicas x "
            f"{train.accumulate} micro-batches; make it a multiple of "
            f"{replicas * train.accumulate}"
        )
    if train.jit_compile and replicas > 1:
        raise ValueError("jit_compile works on one device only; set it to false")


def _have_batch_hooks(callbacks: Sequence[keras.callbacks.Callback]) -> bool:
    hooks = ("on_batch_begin", "on_batch_end", "on_train_batch_begin", "on_train_batch_end")
    base = keras.callbacks.Callback
    return any(getattr(type(c), h) is not getattr(base, h) for c in callbacks for h in hooks)


class Trainer:
    """Trains a model for a number of steps, and goes on where a killed run left off.

    Between two validations lies what Keras callbacks are told is an epoch; their logs hold the
    training values, and validation's as "val_" + name. Callbacks that overwrite a batch hook
    make the run wait for the device every step. The run stops early where a callback sets
    ``model.stop_training``.

    In ``run_dir``: checkpoints/ (full state), log.csv, tensorboard/, best.weights.h5 with
    best.json, last.weights.h5 with last.json. With ``ema_decay`` validation, best and last weights
    are those of the average.

    Of several workers (`tfseg.train.workers`) each has a trainer. They start from the chief's
    state, and all stop where one is to stop. The chief alone saves checkpoints and weights and
    validates; the others wait for it. Their callbacks see no scores.

    On one device a run that was killed and resumed ends in the same bits as an unbroken one (on
    a GPU that takes ``tf.config.experimental.enable_op_determinism``).

    Args:
        build_model: makes the model, with the weights it starts from.
        loss: gives the parts of the loss, such as `tfseg.losses.SemanticLoss`.
        train: length, batch, precision, update rule and schedule.
        run_dir: the run's folder; of workers that are not the chief an empty one of their own.
        dataset: gives the data set of global batches from a step on: mappings with
            what the loss needs, all with ``train.batch_size`` rows; "name" (strings) is only
            read for error messages. Batch k must be the same whatever step it starts from. On
            several workers it is also given a `tfseg.data.pipeline.Share`, and gives its rows.
        validate: gives scores by name; ``train.best_metric`` is one of them.
        log_images: gives uint8 images (H, W, C) or (N, H, W, C) for TensorBoard, at validation.
        callbacks: Keras callbacks.
        seed: of initial weights and dropout.
        resume: go on from the newest checkpoint in ``run_dir``, from the start if it has none.
        strategy: None: as ``train.strategy`` says.

    Attributes:
        model: the model.
        strategy: the distribution strategy.
        start: the step that `run` starts from.

    Raises:
        RunDirError: ``run_dir`` is not empty without ``resume``, absent with it, another run's
            that is under way, or holds checkpoints of which none can be used.
        ValueError: a batch that cannot be split evenly; XLA on several devices; a head
            multiplier without a backbone.
    """

    def __init__(
        self,
        build_model: Callable[[], keras.Model],
        loss: Loss,
        train: config.Train,
        run_dir: str | Path,
        *,
        dataset: Callable[..., tf.data.Dataset],
        validate: Callable[[keras.Model], Mapping[str, float]] | None = None,
        log_images: Callable[[keras.Model], Mapping[str, np.ndarray]] | None = None,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        seed: int = 0,
        resume: bool = False,
        strategy: tf.distribute.Strategy | None = None,
    ):
        self.strategy = strategy or make_strategy(train.strategy)
        _check(train, self.strategy.num_replicas_in_sync)
        if validate is not None and train.best_metric is None:
            raise ValueError("train.best_metric must name the score that chooses the best weights")
        self.run_dir = Path(run_dir)
        self._train, self._dataset = train, dataset
        self._is_chief = is_chief(self.strategy)
        self._validate = validate if self._is_chief else None
        self._log_images = log_images
        self._callbacks = callbacks
        self._batch_hooks = _have_batch_hooks(callbacks)
        self._window: list[dict[str, tf.Tensor]] = []
        self._latest: dict[str, float] = {}
        self._lock = claim_run_dir(run_dir, resume=resume)
        try:
            with losses_told(self.strategy):
                self._build(build_model, loss, seed, resume)
        except BaseException:
            self._lock.release()
            raise

    def _build(
        self, build_model: Callable[[], keras.Model], loss: Loss, seed: int, resume: bool
    ) -> None:
        """Makes the model and its step, and restores their state."""
        train = self._train
        keras.utils.set_random_seed(seed)
        with self.strategy.scope(), building_in(train.precision):
            self.model = build_model()
            rule = UpdateRule(train.optimizer, self.model)
            decay = train.optimizer.ema_decay
            self._average = WeightAverage(self.model, decay) if decay else None
        self._progress = Progress()
        loss_scale = LossScale() if train.precision == "float16" else None
        self._checkpoints = self._make_checkpoints(rule, loss_scale)
        if resume:
            self._checkpoints.restore(self.strategy)
        self._council = Council(self.strategy)
        self._council.adopt([v for group in self._state.values() for v in group])
        part_random_states(self.model, self.strategy)
        self.start = int(self._progress.step.numpy())
        self._best = Best(self.run_dir, train.best_metric)
        self._data = distribute(self._dataset, self.start, self.strategy, train.batch_size)
        self._step = self._make_step(loss, rule, loss_scale)

    def _make_step(self, loss: Loss, rule: UpdateRule, loss_scale: LossScale | None) -> TrainStep:
        train = self._train
        factor = make_schedule(train.schedule, train.steps)
        return TrainStep(
            self.model,
            loss,
            rule,
            self._progress,
            strategy=self.strategy,
            learning_rate=lambda step: train.optimizer.learning_rate * factor(step),
            signature=self._data.element_spec,
            accumulate=train.accumulate,
            loss_scale=loss_scale,
            average=self._average,
            jit_compile=train.jit_compile,
        )

    def _make_checkpoints(self, rule: UpdateRule, loss_scale: LossScale | None) -> Checkpoints:
        self._state: dict[str, list[tf.Variable]] = {
            "model": [v.value for v in self.model.variables],
            "optimizer": [v.value for v in rule.optimizer.variables],
            "progress": [self._progress.step],
        }
        if loss_scale is not None:
            self._state["loss_scale"] = [loss_scale.scale, loss_scale.finite_steps]
        if self._average is not None:
            self._state["average"] = self._average.averages
        folder = self.run_dir / "checkpoints"
        return Checkpoints(folder, self._state, self._train.keep_checkpoints)

    def run(self) -> Outcome:
        """Trains until the last step, a signal, or ``model.stop_training``.

        Whatever stops it, the state after the last good step is saved. SIGINT (Ctrl-C) and
        SIGTERM end it after the step that is under way; a second one acts at once.

        Raises:
            NonFiniteLoss: the loss or its gradient was not finite. It is noticed when values
                are logged or the state is saved, and no later step has changed anything.
            SaveError: a file could not be written, as on a full disk; older ones are whole.
            RunDirError: another run has taken the folder since an earlier call.
            WorkerLost: another worker does not answer. Nothing is saved then: the step that was
                under way has left its traces.
            ValueError: the data set ended early, or validation lacks the best metric.
        """
        self._lock.acquire()
        try:
            return self._run()
        finally:
            self._lock.release()

    def _run(self) -> Outcome:
        self._log = RunLog(self.run_dir, self.start, self._train.steps)
        self._watch = Stopwatch()
        self.model.stop_training = False
        self._hooks = keras.callbacks.CallbackList(
            list(self._callbacks), model=self.model, steps=self._round, verbose=0
        )
        try:
            with Interrupts() as interrupts, losses_told(self.strategy):
                self._hooks.on_train_begin()
                step = self._loop(interrupts)
                self._hooks.on_train_end()
        except WorkerLost:
            raise
        except Exception:
            self._keep(int(self._progress.step.numpy()))
            raise
        finally:
            self._log.close()
        if self._is_chief:
            with self._averaged():
                write_whole(self.run_dir / "last.weights.h5", self.model.save_weights)
            note, path = json.dumps({"step": step}), self.run_dir / "last.json"
            write_whole(path, lambda part: part.write_text(note, encoding="utf-8"))
        with losses_told(self.strategy):
            self._council.wait()  # what the chief has written is there for all
        if interrupts.requested:
            print(
                f"{interrupts.requested}: stopped after step {step} of {self._train.steps}; "
                f"the state is saved in {self.run_dir}. Continue with --resume.",
                file=sys.stderr,
            )
        return Outcome(step, interrupts.requested, self._best.value)

    @property
    def _round(self) -> int:
        return self._train.validate_every or self._train.steps

    def _round_ends(self, step: int) -> bool:
        return step > 0 and (step % self._round == 0 or step == self._train.steps)

    def _stops(self, interrupts: Interrupts) -> bool:
        """Whether the run is to end here; where one worker is to stop, all are."""
        kinds = [s.name for s in SIGNALS]
        mine = [self.model.stop_training, *(interrupts.requested == kind for kind in kinds)]
        stop, *signals = self._council.any(mine)
        said = [kind for kind, given in zip(kinds, signals, strict=True) if given]
        interrupts.requested = next(iter(said), interrupts.requested)
        return stop or bool(said)

    def _loop(self, interrupts: Interrupts) -> int:
        train, step = self._train, self.start
        if self._round_ends(step):
            self._end_round(step)  # the run was stopped before it had
        batches = iter(self._data)
        fresh = True
        while step < train.steps and not self._stops(interrupts):
            if fresh:
                self._hooks.on_epoch_begin(step // self._round)
            self._one_step(step, batches)
            step += 1
            if step % train.log_every == 0 or step == train.steps:
                self._report(step)
            fresh = self._round_ends(step)
            due = train.checkpoint_every and step % train.checkpoint_every == 0
            if fresh or due or interrupts.requested:
                self._save(step)
            if fresh and not interrupts.requested:
                self._end_round(step)
        self._save(step)
        return step

    def _one_step(self, step: int, batches: Iterator[Any]) -> None:
        batch = next(batches, None)
        if batch is None:
            raise ValueError(f"the data set ended before batch {step}; it must repeat")
        in_round = step % self._round
        if self._batch_hooks:
            self._hooks.on_train_batch_begin(in_round)
        scalars = self._step(batch)
        self._window.append(scalars)
        if self._batch_hooks:
            self._hooks.on_train_batch_end(in_round, scalars)
        self._log.bar.update()

    def _fetch(self) -> dict[str, np.ndarray]:
        names = list(self._window[0])
        values = tf.stack([tf.stack(list(s.values())) for s in self._window]).numpy()
        return dict(zip(names, values.T, strict=True))

    def _report(self, step: int) -> None:
        self._check_finite(step)
        values = self._fetch()
        finite = np.isfinite(values["loss"]) & np.isfinite(values["gradient_norm"])
        means = {
            name: float(column[finite].mean()) if finite.any() else float("nan")
            for name, column in values.items()
        }
        means |= {n: float(values[n][-1]) for n in ("learning_rate", "loss_scale") if n in values}
        images = len(self._window) * self._train.batch_size
        self._latest = {**means, "images_per_second": images / self._watch.lap()}
        self._log.scalars(step, "train", self._latest)
        self._window = []

    def _check_finite(self, step: int) -> None:
        stopped_at = int(self._progress.stopped_at.numpy())
        if stopped_at < 0:
            return
        values = self._fetch()
        row = stopped_at - step  # from the end: the window's last row is that of step - 1
        batch = next(iter(self._dataset(stopped_at)))
        names = [n.decode() for n in batch["name"].numpy()] if "name" in batch else []
        raise NonFiniteLoss(
            stopped_at,
            names,
            float(values["loss"][row]),
            float(values["gradient_norm"][row]),
            self.run_dir / "checkpoints",
        )

    def _save(self, step: int) -> None:
        self._check_finite(step)
        with self._watch.paused():
            self._keep(step)

    def _keep(self, step: int) -> None:
        if self._is_chief:
            self._checkpoints.save(step)

    def _averaged(self) -> AbstractContextManager[None]:
        return nullcontext() if self._average is None else self._average.swapped_in(self.strategy)

    def _end_round(self, step: int) -> None:
        """Validation, and the callbacks' epoch end; the state has been saved before."""
        logs = dict(self._latest)
        with self._watch.paused():
            if self._validate is not None:
                with self._averaged():
                    scores = dict(self._validate(self.model))
                    self._log.scalars(step, "validation", scores)
                    if self._log_images is not None:
                        self._log.images(step, self._log_images(self.model))
                    self._best.offer(self.model, step, scores)
                logs |= {f"val_{name}": value for name, value in scores.items()}
            self._hooks.on_epoch_end((step - 1) // self._round, logs)
