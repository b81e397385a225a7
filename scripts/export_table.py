"""Which semantic networks can be written in which format: each tried, and compared with the model.

python scripts/export_table.py PHOTOGRAPH --out TABLE.md
"""

import json
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import benchmark_sizes
import click

CLASSES, SIDE = 5, 321
COLUMNS = ("tflite", "onnx", "xla", "bfloat16")
_HEAD = """# Formats of every semantic network

Made by `scripts/export_table.py PHOTOGRAPH --out docs/formats.md`; not edited by hand.

Networks are narrow where they have an option for it (`base_filters` 4, `fc_filters` 16), their
weights random, of 5 classes; the image is a piece of a photograph, of the height and width in the
second column. Of `tflite` and `onnx` (TensorFlow Lite's and ONNX Runtime's own interpreters run the
files) and of `xla` the largest difference of a probability from the Keras model's is given, of
`bfloat16` the pixels whose label is another one; or why the network cannot be written. A network
takes other sizes in its file as it does itself. Deep residual networks of random weights magnify
rounding, so that in bfloat16 labels change which hardly differed in score, and DeconvNet's maxima,
where two are nearly equal, move.
"""


def _model(name: str, seed: int = 0) -> Any:
    """A narrow network with random scores, which in training start at zero."""
    import keras
    import numpy as np

    import tfseg
    from tfseg import models, registry

    models.register_all()
    options = registry.entry(name).options()
    narrow = {k: v for k, v in (("base_filters", 4), ("fc_filters", 16)) if k in options}
    keras.utils.set_random_seed(seed)
    model = tfseg.build(name, num_classes=CLASSES, **narrow)
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if len(weight.shape) == 4 and not np.any(weight.numpy()):
            weight.assign(rng.normal(0, 0.1, weight.shape))
    return model


def _settle(network: Any, image: Any) -> None:
    """Brings scores of random weights to a size that differences can be seen in.

    Norms get the statistics of an image, without which scores grow with a network's depth, and
    the last convolutions that score are scaled.
    """
    import keras
    import numpy as np

    prepared = network.prepare(image)
    norms = [x for x in network.model.layers if isinstance(x, keras.layers.BatchNormalization)]
    if norms:
        network.model.trainable = True
        for norm in norms:
            norm.momentum = 0.0
        network.model(prepared, training=True)
        for norm in norms:  # a pool of one bin varies by nothing in one image
            norm.moving_variance.assign(np.maximum(norm.moving_variance.numpy(), 0.1))
    spread = network.forward(prepared).numpy().std()
    convolutions = [x for x in network.model.layers if isinstance(x, keras.layers.Conv2D)]
    scoring = {layer for layer in convolutions if layer.filters == CLASSES}
    for layer in scoring:
        if not _feeds(layer, scoring):
            layer.set_weights([weight / spread for weight in layer.get_weights()])


def _feeds(layer: Any, others: set[Any]) -> bool:
    after = [node.operation for node in layer._outbound_nodes]
    return any(x in others or _feeds(x, others) for x in after)


def _size(name: str, network: Any) -> tuple[int, int]:
    """A height and width that the network takes, with maps wider than any dilation."""
    height, width = network.input_size
    if height is not None:
        return height, width
    with suppress(ValueError):  # Keras': smaller than the border that the network loses
        if network.output_size(SIDE, SIDE) == (SIDE, SIDE):
            return SIDE, SIDE
    job = benchmark_sizes.job(name, "infer")
    return job.height, job.width


def _measure(name: str, photograph: Path) -> dict[str, object]:
    """A network's row."""
    import numpy as np
    import tensorflow as tf

    from tfseg.data.io import read_image
    from tfseg.export_formats import check_export_file, export_file
    from tfseg.predict.graph import WholeImage
    from tfseg.train.precision import building_in

    model = _model(name)
    preprocessing = model.spec.preprocessing
    network = WholeImage(model, preprocessing)
    height, width = _size(name, network)
    image = read_image(photograph)
    image = tf.image.resize(image, (height, width)).numpy().astype(np.uint8)
    if preprocessing.num_channels == 1:
        image = image[..., 1:2]
    _settle(network, image[None])
    expected = network.probabilities(image[None]).numpy()

    def file(format: str) -> float:
        with tempfile.TemporaryDirectory() as folder:
            path = export_file(model, folder, format=format, preprocessing=preprocessing)
            return check_export_file(path, model, [image], preprocessing=preprocessing)

    def xla() -> float:
        compiled = WholeImage(model, preprocessing, xla=True).probabilities(image[None])
        return float(np.abs(compiled.numpy() - expected).max())

    def bfloat16() -> float:
        with building_in("bfloat16"):
            other = _model(name)
        other.set_weights(model.get_weights())
        found = WholeImage(other, preprocessing).probabilities(image[None]).numpy()
        return float((found.argmax(-1) != expected.argmax(-1)).mean())

    row: dict[str, object] = {"size": f"{height} x {width}"}
    ways = (lambda: file("tflite"), lambda: file("onnx"), xla, bfloat16)
    for column, way in zip(COLUMNS, ways, strict=True):
        try:
            row[column] = way()
        except Exception as error:  # what is measured: whether it can be done
            row[column] = str(error).splitlines()[0][:160]
    return row


def _cell(column: str, value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.1%}" if column == "bfloat16" else f"{value:.0e}"


def _table(rows: dict[str, dict[str, object]]) -> str:
    lines = [f"| network | size | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 2) + "|"]
    for name in sorted(rows):
        cells = [_cell(column, rows[name].get(column, "")) for column in COLUMNS]
        lines.append(f"| `{name}` | {rows[name].get('size', '')} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


@click.command(help=__doc__)
@click.argument("photograph", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True)
@click.option("--match", default="*", help="Only networks whose names fit this shell pattern.")
@click.option("--timeout", default=1800, show_default=True, help="Seconds a network.")
@click.option("--network", hidden=True, help="Measures this one and prints its row.")
def main(photograph: Path, out: Path, match: str, timeout: int, network: str | None) -> None:
    if network is not None:
        click.echo(json.dumps(_measure(network, photograph)))
        return
    import tfseg

    rows = {}
    for name in tfseg.list_models(task="semantic", match=match):
        # A process each: a converter that crashes or hangs takes nothing else with it.
        command = [sys.executable, __file__, str(photograph), "--out", str(out), "--network", name]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
            if done.returncode == 0:
                rows[name] = json.loads(done.stdout.splitlines()[-1])
            else:
                rows[name] = {"size": f"failed: {done.stderr.splitlines()[-1]}"}
        except subprocess.TimeoutExpired:
            rows[name] = {"size": f"not measured within {timeout} s"}
        click.echo(f"{name}: {rows[name]}")
        out.write_text(f"{_HEAD}\n{_table(rows)}", encoding="utf-8")


if __name__ == "__main__":
    main()
