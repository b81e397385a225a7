"""A running server with two exported models: the loopback one, or the official image."""

import json
import select
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml
from detector_stand_in import PLAIN, StandIn

from tfseg.export import export
from tfseg.export_detector import export_detector
from tfseg.registry import Preprocessing

SCRIPT = Path(__file__).with_name("loopback_server.py")
DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
RGB = Preprocessing("rgb", (120.0, 110.0, 100.0), (60.0, 60.0, 60.0))
CLASSES = ("sky", "road", "car", "tree")
COLORS = np.array([[70, 130, 180], [128, 64, 128], [0, 0, 142], [107, 142, 35]], np.uint8)
SIZES = {"short_side": 60, "long_side": 100, "divisor": 32}


class Server:
    """A server's ports, and requests to it that are made without tfseg."""

    def __init__(self, ports, folder):
        import grpc
        from tensorflow_serving.apis import prediction_service_pb2_grpc

        self.folder = folder
        self.grpc = f"127.0.0.1:{ports['grpc']}"
        self.rest = f"http://127.0.0.1:{ports['rest']}"
        options = [("grpc.max_receive_message_length", -1)]
        self.channel = grpc.insecure_channel(self.grpc, options=options)
        self.stub = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)

    def predict(self, model, signature, inputs, outputs=()):
        """The outputs that gRPC answers, as arrays."""
        from tensorflow_serving.apis import predict_pb2

        request = predict_pb2.PredictRequest(output_filter=outputs)
        request.model_spec.name, request.model_spec.signature_name = model, signature
        for name, value in inputs.items():
            value = np.array(value, object) if isinstance(value, list) else value
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        response = self.stub.Predict(request, timeout=60)
        return {name: tf.make_ndarray(value) for name, value in response.outputs.items()}

    def post(self, path, request):
        """The status and JSON that REST answers; a GET of no request."""
        body = request if isinstance(request, bytes | None) else json.dumps(request).encode()
        call = urllib.request.Request(f"{self.rest}/v1/models/{path}", data=body)
        try:
            with urllib.request.urlopen(call, timeout=60) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)


def semantic_network():
    """Of local operations, so that a part of an image is labelled as in the whole."""
    x = keras.Input((None, None, 3))
    y = keras.layers.Conv2D(4, 3, padding="same", activation="relu")(x)
    model = keras.Model(x, keras.layers.Conv2D(len(CLASSES), 3, padding="same")(y))
    rng = np.random.default_rng(1)
    model.set_weights([rng.normal(0, 0.5, w.shape) for w in model.weights])
    return model


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """The models in this process, and the folder of their exports."""
    pytest.importorskip("tensorflow_serving.apis", reason="needs tensorflow-serving-api")
    folder = tmp_path_factory.mktemp("models")
    semantic, things = semantic_network(), StandIn(keypoints=True, semantic=True)
    export(semantic, folder / "road", preprocessing=RGB, classes=CLASSES, colors=COLORS, png=True)
    export(semantic, folder / "plain", preprocessing=RGB)
    export_detector(
        things,
        folder / "things",
        preprocessing=PLAIN,
        classes=("cat", "dog", "bird"),
        keypoints=("nose", "tail"),
        skeleton=((0, 1),),
        png=True,
        **SIZES,
    )
    return semantic, things, folder


@pytest.fixture(scope="session")
def loopback(models):
    folder = models[2]
    given = {"models": {p.name: str(p) for p in folder.iterdir()}, "loading": ["late"]}
    process = subprocess.Popen(
        [sys.executable, "-I", str(SCRIPT), json.dumps(given)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=folder,
    )
    try:
        assert select.select([process.stdout], [], [], 90)[0], "no server after 90 s"
        yield Server(json.loads(process.stdout.readline()), folder)
        assert process.poll() is None, "the server has ended"
        process.stdin.close()
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def official(models):
    """The image of deploy/docker-compose.yml, with its flags and monitoring."""
    service = yaml.safe_load((DEPLOY / "docker-compose.yml").read_text())["services"]["serving"]
    image, folder = service["image"], models[2]
    _docker("no Docker daemon is reachable", 20, "info")
    if subprocess.run(["docker", "image", "inspect", image], capture_output=True).returncode:
        _docker(f"{image} is not here and cannot be pulled", 300, "pull", image)
    names = [p.name for p in sorted(folder.iterdir()) if p.is_dir()]
    configs = "".join(
        f'config {{ name: "{n}" base_path: "/models/{n}" model_platform: "tensorflow" }}\n'
        for n in names
    )
    config = folder.parent / f"{folder.name}-config"
    config.mkdir()
    (config / "models.config").write_text(f"model_config_list {{\n{configs}}}\n")
    (config / "monitoring.config").write_text((DEPLOY / "monitoring.config").read_text())
    started = subprocess.run(
        ["docker", "run", "--detach", "--publish", "127.0.0.1::8500", "--publish"]
        + ["127.0.0.1::8501", "--volume", f"{folder}:/models:ro", "--volume"]
        + [f"{config}:/config:ro", "--entrypoint", *service["entrypoint"], image]
        + service["command"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    container = started.stdout.strip()
    try:
        server = Server({"grpc": _port(container, 8500), "rest": _port(container, 8501)}, folder)
        _wait_for(server, container)
        yield server
    finally:
        subprocess.run(["docker", "rm", "--force", container], capture_output=True, timeout=60)


def _docker(why, seconds, *command):
    """Runs a docker command; where it fails the test is skipped."""
    try:
        done = subprocess.run(["docker", *command], capture_output=True, text=True, timeout=seconds)
    except FileNotFoundError:
        pytest.skip("there is no docker command")
    except subprocess.TimeoutExpired:
        pytest.skip(f"{why}: no end within {seconds} s")
    if done.returncode:
        pytest.skip(f"{why}: {(done.stderr.strip() or done.stdout.strip()).splitlines()[-1]}")


def _port(container, inside):
    found = subprocess.run(
        ["docker", "port", container, str(inside)], capture_output=True, text=True, check=True
    )
    return int(found.stdout.split()[0].rpartition(":")[2])


def _wait_for(server, container):
    for _ in range(120):
        try:
            if server.post("road", None)[0] == 200:
                return
        except OSError:
            time.sleep(1)
    logs = subprocess.run(["docker", "logs", container], capture_output=True, text=True)
    pytest.fail(f"the server does not answer after 120 s:\n{logs.stderr[-3000:]}")


@pytest.fixture(params=["loopback", "official"])
def server(request):
    """Every test of the contract runs against both."""
    return request.getfixturevalue(request.param)
