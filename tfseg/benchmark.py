"""How fast a network runs, beside a peer's implementation of the same network.

Each contender lives in a process of its own, so that its peak memory is its own and its threads
do not meet the other's; the parent has them take one step in turn, A B A B, so that whatever
else the machine does falls on both alike.
"""

import math
import os
import resource
import signal
import statistics
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

from tabulate import tabulate

from tfseg.machine import machine_facts

# Forward pass, and gradients of inputs and of weights, each about as dear.
TRAIN_FACTOR = 3
# Side of the square matrices whose product is the yardstick.
MATRIX = 2048
# What the command to run a part begins with.
_PART = "part "
# Seconds between two steps, in which a contender's waiting threads go to sleep.
PAUSE = 0.05


class BenchmarkError(RuntimeError):
    """A contender failed; the message holds its name and, where there is one, its traceback."""


class OutOfMemory(BenchmarkError):
    """A contender's process was killed, as the kernel does where memory ends."""


class OutOfTime(BenchmarkError):
    """A contender was not done in time."""


@dataclass(frozen=True)
class Job:
    """What is measured.

    Attributes:
        model: a registered name.
        num_classes: classes of the output.
        height: of the input, pixels.
        width: of the input, pixels.
        batch: images a step.
        mode: "infer", the forward pass from prepared images to logits, or "train", forward,
            mean cross-entropy, gradients and an SGD momentum update.
    """

    model: str
    num_classes: int
    height: int
    width: int
    batch: int
    mode: str

    def __post_init__(self) -> None:
        if self.mode not in ("infer", "train"):
            raise ValueError(f"mode must be infer or train, not {self.mode!r}")
        for name in ("num_classes", "height", "width", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")


@dataclass(frozen=True)
class Session:
    """A contender ready to run, inside its process.

    Attributes:
        step: runs one step to its end.
        matrix_product: multiplies two float32 (MATRIX, MATRIX) matrices.
        facts: what the report says of it; ``parameters``, and ``macs`` (multiply-accumulates
            of one image's forward pass) where it can count them.
        parts: of the step, each run to its end on inputs of its own, by name.
    """

    step: Callable[[], object]
    matrix_product: Callable[[], object]
    facts: dict[str, Any]
    parts: dict[str, Callable[[], object]] = field(default_factory=dict)


@dataclass(frozen=True)
class Contender:
    """A name and how to get ready; ``prepare`` is importable, for it runs in a new process."""

    name: str
    prepare: Callable[[Job], Session]


def _randomise_norms(model: Any) -> None:
    """As trained ones: a graph optimizer removes the offsets of fresh norms, which are zero."""
    import keras

    for weight in model.weights:
        if weight.name in ("beta", "moving_mean"):
            weight.assign(keras.random.normal(weight.shape, stddev=0.1, seed=0))


def frozen_session(job: Job) -> Session:
    """`tfseg_session` with the weights as constants, as ``predict.freeze`` makes them."""
    return tfseg_session(job, freeze=True)


def folded_session(job: Job) -> Session:
    """`tfseg_session` with norms folded and large convolutions packed, as an export has them."""
    return tfseg_session(job, fold=True)


def tfseg_session(job: Job, freeze: bool = False, fold: bool = False) -> Session:
    """tfseg's own contender: a graph of the model as `tfseg.build` makes it.

    Raises:
        ValueError: as `tfseg.build` does.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tfseg

    return model_session(tfseg.build(job.model, job.num_classes), job, freeze, fold)


def model_session(model: Any, job: Job, freeze: bool = False, fold: bool = False) -> Session:
    """A contender of a Keras model.

    Args:
        model: takes one image; its norms' statistics are overwritten.
        job: its ``model`` is not looked at.
        freeze: for inference, the weights are constants.
        fold: for inference, norms are folded into convolutions.
    """
    import tensorflow as tf

    import tfseg
    from tfseg.complexity import count_macs
    from tfseg.layers.fold import fold_norms

    channels = model.inputs[0].shape[-1]
    images = tf.random.stateless_normal((job.batch, job.height, job.width, channels), (0, 0))
    matrix = tf.random.stateless_normal((MATRIX, MATRIX), (0, 1))
    _randomise_norms(model)
    if job.mode == "infer":
        step = _inference(fold_norms(model, packed=True) if fold else model, images, freeze)
    else:
        step = _training(model, images)
    return Session(
        step=step,
        matrix_product=lambda: tf.linalg.matmul(matrix, matrix)[0, 0].numpy(),
        facts={
            "versions": {name: version(name) for name in ("keras", "numpy")}
            | {"tensorflow": tf.__version__, "tfseg": tfseg.__version__},
            "parameters": sum(math.prod(w.shape) for w in model.trainable_variables),
            "macs": count_macs(model, job.height, job.width),
        },
    )


def _outputs(output: Any) -> list[Any]:
    if isinstance(output, dict):
        return list(output.values())
    return output if isinstance(output, list) else [output]


def _inference(model: Any, images: Any, freeze: bool = False) -> Callable[[], object]:
    import tensorflow as tf

    from tfseg.predict.graph import frozen

    def logits(images: Any) -> Any:
        output = model(images, training=False)
        # Auxiliary outputs are for training; a list has no main one.
        return output["logits"] if isinstance(output, dict) else output

    signature = [tf.TensorSpec(images.shape, images.dtype)]
    forward: Callable[[Any], Any] = tf.function(logits, input_signature=signature)
    if freeze:
        forward = frozen(forward)
    # reading a value waits for the step
    return lambda: [output[0, 0].numpy() for output in _outputs(forward(images))]


def _training(model: Any, images: Any) -> Callable[[], object]:
    import keras
    import tensorflow as tf

    optimizer = keras.optimizers.SGD(1e-6, momentum=0.9)
    optimizer.build(model.trainable_variables)
    outputs = _outputs(model.compute_output_spec(keras.KerasTensor(images.shape)))
    labels = [tf.zeros(output.shape[:-1], tf.int32) for output in outputs]

    def step() -> Any:
        with tf.GradientTape() as tape:
            pairs = zip(labels, _outputs(model(images, training=True)), strict=True)
            loss = tf.add_n(
                [
                    tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(true, logits))
                    for true, logits in pairs
                ]
            )
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    graph = tf.function(step)
    return lambda: graph().numpy()


def _serve(connection: Connection, prepare: Callable[[Job], Session], job: Job) -> None:
    """The life of a contender's process: get ready, then do as the parent says."""
    try:
        # Where memory ends, the kernel shall end this process and not another.
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
        session = prepare(job)
        actions = {
            "step": session.step,
            "matrix_product": session.matrix_product,
            **{_PART + name: part for name, part in session.parts.items()},
        }
        for action in actions.values():
            action()
        connection.send((session.facts, list(actions)))
        while (command := connection.recv()) != "stop":
            start = time.perf_counter()
            actions[command]()
            connection.send(time.perf_counter() - start)
        # in KiB on Linux
        connection.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    except Exception:
        connection.send(BenchmarkError(traceback.format_exc()))


class _Worker:
    """The parent's end of a contender's process."""

    def __init__(self, contender: Contender, job: Job, deadline: float | None) -> None:
        self.name = contender.name
        self._deadline = deadline
        context = get_context("spawn")
        self._connection, theirs = context.Pipe()
        arguments = (theirs, contender.prepare, job)
        self._process = context.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
        theirs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._connection.close()
        self._process.kill()
        self._process.join()

    def receive(self) -> Any:
        left = None if self._deadline is None else max(0.0, self._deadline - time.monotonic())
        if not self._connection.poll(left):
            raise OutOfTime(f"{self.name}: not done in time")
        try:
            answer = self._connection.recv()
        except EOFError:
            raise self._dead() from None
        if isinstance(answer, BenchmarkError):
            raise BenchmarkError(f"{self.name}: {answer}")
        return answer

    def ask(self, command: str) -> Any:
        try:
            self._connection.send(command)
        except BrokenPipeError:
            raise self._dead() from None
        return self.receive()

    def _dead(self) -> BenchmarkError:
        self._process.join()
        code = self._process.exitcode
        if code == -signal.SIGKILL:
            return OutOfMemory(f"{self.name}: its process was killed, for memory it seems")
        return BenchmarkError(f"{self.name}: its process ended with code {code}")


def run(
    job: Job,
    contenders: list[Contender],
    runs: int,
    progress: Callable[[], object] | None = None,
    timeout: float | None = None,
) -> dict[str, Any]:
    """Measures the contenders in alternation.

    Args:
        job: what they do.
        contenders: the first is the one whose speed relative to the others is reported.
        runs: steps of each.
        progress: called after each round.
        timeout: seconds that all of it, getting ready too, may take; None: any.

    Returns:
        A mapping that JSON can hold: ``job``, ``machine`` (``load_average`` of the minute before:
        well above 0, others were computing, and no figure here is worth much, for the contenders
        do not suffer alike), ``contenders`` (for each ``name``, ``seconds`` of every step,
        ``median_seconds``, ``quartile_seconds`` (lower, upper), ``images_per_second``,
        ``peak_bytes``, ``matrix_gflops``, ``share_of_peak``, ``parts`` (median seconds of each),
        and its facts), and ``ratios``: the speed of the first over each other one's, by name.

    Raises:
        ValueError: if ``runs`` is below 1 or there is no contender.
        BenchmarkError: if a contender fails: OutOfMemory or OutOfTime if that is how.
    """
    if runs < 1 or not contenders:
        raise ValueError("a benchmark needs at least one run and one contender")
    machine = machine_facts()
    deadline = None if timeout is None else time.monotonic() + timeout
    facts, times, peaks = _alternate(job, contenders, runs, progress, deadline)
    macs = next((fact["macs"] for fact in facts if "macs" in fact), None)
    gflops = [2 * MATRIX**3 / statistics.median(own["matrix_product"]) / 1e9 for own in times]
    rows = [
        {"name": contender.name, **fact, **_speed(job, own["step"], macs, max(gflops))}
        | {"matrix_gflops": product, "peak_bytes": peak, "parts": _parts(own)}
        for contender, fact, own, product, peak in zip(
            contenders, facts, times, gflops, peaks, strict=True
        )
    ]
    first, *others = rows
    ratios = {row["name"]: row["median_seconds"] / first["median_seconds"] for row in others}
    return {"job": asdict(job), "machine": machine, "contenders": rows, "ratios": ratios}


def _parts(times: dict[str, list[float]]) -> dict[str, float]:
    """Median seconds of each part."""
    found = {name: statistics.median(own) for name, own in times.items() if name.startswith(_PART)}
    return {name.removeprefix(_PART): seconds for name, seconds in found.items()}


def _alternate(
    job: Job,
    contenders: list[Contender],
    runs: int,
    progress: Callable[[], object] | None,
    deadline: float | None,
) -> tuple[list[dict[str, Any]], list[dict[str, list[float]]], list[int]]:
    """Facts, seconds of all that was run, by command, and peak bytes of each."""
    with ExitStack() as stack:
        workers = [stack.enter_context(_Worker(each, job, deadline)) for each in contenders]
        greetings = [worker.receive() for worker in workers]
        times: list[dict[str, list[float]]] = [
            {command: [] for command in commands} for _, commands in greetings
        ]
        for _ in range(runs):
            for worker, own in zip(workers, times, strict=True):
                for command, seconds in own.items():
                    time.sleep(PAUSE)
                    seconds.append(worker.ask(command))
            if progress is not None:
                progress()
        return [facts for facts, _ in greetings], times, [worker.ask("stop") for worker in workers]


def _speed(job: Job, times: list[float], macs: int | None, peak_gflops: float) -> dict[str, Any]:
    median = statistics.median(times)
    lower, _, upper = statistics.quantiles(times, n=4) if len(times) > 1 else times * 3
    work = None if macs is None else macs * job.batch * (1 if job.mode == "infer" else TRAIN_FACTOR)
    return {
        "seconds": times,
        "median_seconds": median,
        "quartile_seconds": [lower, upper],
        "images_per_second": job.batch / median,
        "share_of_peak": None if work is None else 2 * work / median / 1e9 / peak_gflops,
    }


def table(result: dict[str, Any]) -> str:
    """The result of `run` for people: a line a contender, and the ratios."""
    job = result["job"]
    rows = [
        (
            row["name"],
            row["median_seconds"],
            "{:.3f} .. {:.3f}".format(*row["quartile_seconds"]),
            row["images_per_second"],
            row["peak_bytes"] / 2**20,
            "" if row["share_of_peak"] is None else f"{row['share_of_peak']:.0%}",
        )
        for row in result["contenders"]
    ]
    heads = ("", "median s", "quartiles s", "images/s", "peak MiB", "of matrix peak")
    runs = len(result["contenders"][0]["seconds"])
    machine = result["machine"]
    lines = [
        f"{job['model']} {job['mode']}, batch {job['batch']} of {job['height']}x{job['width']}, "
        f"{runs} runs each, {machine['cores']} cores, {machine['processor']}, "
        f"load before {machine['load_average']:.1f}",
        tabulate(rows, heads, floatfmt=("", ".3f", "", ".2f", ".0f", "")),
    ]
    name = result["contenders"][0]["name"]
    lines += [f"{name} is {ratio:.2f}x {peer}" for peer, ratio in result["ratios"].items()]
    return "\n".join(lines)
