"""`tfseg serve-check`: asks a running server over REST and gRPC, compares, and draws the answer."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tfseg.data.io import read_image
from tfseg.serving.client import Answer, ServedModel, ServingError, parse_url
from tfseg.serving.draw import decode_labels, draw, summary
from tfseg.serving.grpc_client import GrpcModel
from tfseg.serving.rest import RestModel

#: the share of labels that may differ between two answers, and the difference of other values:
#: a server may add numbers up in another order each time
TOLERANCE = 1e-3


def check(
    url: str,
    images: Sequence[Path],
    *,
    grpc: str | None = None,
    info: Path | None = None,
    out: Path,
    timeout: float = 60.0,
    echo: Callable[[str], None] = print,
) -> list[Path]:
    """Sends images to a model that TensorFlow Serving serves, and draws what it answers.

    The signature is "png" where the model has it, else "serving_default", whose probabilities
    make long JSON.

    Args:
        url: "http://HOST:PORT/v1/models/NAME", or with "/versions/N" behind it.
        images: JPEG and PNG files; each is a request.
        grpc: "HOST:PORT" of the same server, to ask it over gRPC also.
        info: the export's model_info.json, which has names and colours.
        out: folder of the pictures, NAME.png; made if missing.
        timeout: seconds that a request may take.
        echo: is given the lines of the report.

    Returns:
        The pictures.

    Raises:
        ServingError: no server, no such model, none of its versions is loaded; and, after all
            images, those that were refused or to which the two ways gave different answers.
        ValueError: another form of URL, another content of ``info``, or two images of one name.
        ImportError: gRPC without the stubs.
    """
    facts = _facts(info)
    if len({path.stem for path in images}) < len(images):
        raise ValueError("two of the images have one name, by which their pictures are called")
    address = parse_url(url)
    rest = RestModel(url, timeout)
    written, failures = [], []
    with ExitStack() as stack:
        ways: dict[str, ServedModel] = {"REST": rest}
        if grpc is not None:
            other = GrpcModel(grpc, address.model, address.version, timeout)
            ways["gRPC"] = stack.enter_context(other)
        for name, way in ways.items():
            echo(f"{name} {way.server}: {address.model} {way.ready()}")
        signature = "png" if "png" in rest.signatures() else "serving_default"
        out.mkdir(parents=True, exist_ok=True)
        for path in images:
            try:
                answer, times = _ask_all(ways, signature, path.read_bytes())
                image = read_image(path)
                picture = draw(image, answer, facts)
            except ValueError as error:
                failures.append(f"{path}: {error}")
                continue
            written.append(out / f"{path.stem}.png")
            Image.fromarray(picture).save(written[-1])
            echo(f"{path}: {signature}, {times}: {summary(answer, facts)}; {written[-1]}")
    if failures:
        lines = "\n  ".join(failures)
        raise ServingError(f"{len(failures)} of {len(images)} images failed:\n  {lines}")
    return written


def _facts(info: Path | None) -> Mapping[str, Any]:
    if info is None:
        return {}
    try:
        facts = json.loads(info.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{info} is no JSON: {error}") from error
    if not isinstance(facts, dict) or "signatures" not in facts:
        raise ValueError(f"{info} is no model_info.json: it tells of no signatures")
    return facts


def _ask_all(ways: Mapping[str, ServedModel], signature: str, file: bytes) -> tuple[Answer, str]:
    """The answer, and what each way took."""
    answers, times = [], []
    for name, way in ways.items():
        start = time.perf_counter()
        answers.append(way.predict(signature, [file]))
        times.append(f"{name} {1000 * (time.perf_counter() - start):.0f} ms")
    for other in answers[1:]:
        differing = differences(answers[0], other)
        if differing:
            raise ServingError(f"REST and gRPC answer differently: {'; '.join(differing)}")
    return answers[0], ", ".join(times)


def differences(one: Answer, other: Answer) -> list[str]:
    """In which outputs two answers differ by more than `TOLERANCE`, in words.

    Files and labels may differ in that share, other numbers by that much, of their size if they
    are above 1.
    """
    if one.keys() != other.keys():
        return [f"outputs {sorted(one)} and {sorted(other)}"]
    found = []
    for name, value in one.items():
        a, b = _numbers(value), _numbers(other[name])
        if a.shape != b.shape:
            found.append(f"{name} of shapes {a.shape} and {b.shape}")
        elif a.dtype.kind == "f":
            if not np.allclose(a, b, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True):
                found.append(f"{name} by up to {np.abs(a - b).max():.3g}")
        elif (a != b).sum() > TOLERANCE * a.size:
            found.append(f"{name} in {(a != b).mean():.2%} of the values")
    return found


def _numbers(value: np.ndarray) -> np.ndarray:
    """An array of numbers as it is; of one of files, the first one's pixels."""
    return decode_labels(value[0]) if value.dtype == object else value
