import json
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
from click.testing import CliRunner
from image_files import encoded, picture, turned_jpeg
from PIL import Image

from tfseg.cli import main
from tfseg.serving import ServingError, check, parse_url
from tfseg.serving.check import differences

COLORS = ((70, 130, 180), (128, 64, 128), (0, 0, 142), (107, 142, 35))


def run(*arguments):
    return CliRunner().invoke(main, ["serve-check", *map(str, arguments)])


@pytest.fixture
def images(tmp_path):
    files = {
        "photo.jpg": turned_jpeg(picture(40, 60, seed=1), 6),
        "grey.png": encoded(picture(50, 30, "L")),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    return [tmp_path / name for name in files]


@pytest.fixture
def answering():
    """A server on loopback that answers (status, body) by path; it counts what it is asked."""
    servers = []

    def start(answers):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                code, body = answers.get(self.path, (404, {"error": "Not Found"}))
                self.send_response(code)
                self.end_headers()
                self.wfile.write(body if isinstance(body, bytes) else json.dumps(body).encode())

            do_POST = do_GET

            def log_message(self, *args):
                pass

        servers.append(HTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_address[1]}/v1/models/road"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def status(*rows):
    versions = [
        {"version": str(v), "state": s, "status": {"error_code": c, "error_message": m}}
        for v, s, c, m in rows
    ]
    return {"model_version_status": versions}


def signatures(**outputs):
    described = {name: {"dtype": dtype} for name, dtype in outputs.items()}
    found = {"serving_default": {"outputs": described}}
    return {"metadata": {"signature_def": {"signature_def": found}}}


READY = status((3, "AVAILABLE", "OK", ""))


def test_urls():
    assert parse_url("http://host:8501/v1/models/road") == ("http://host:8501", "road", None)
    assert parse_url("https://a.b/v1/models/road/versions/12") == ("https://a.b", "road", 12)
    for url in (
        *("host:8501", "http://host:8501", "http://host/v1/models/", "http://host/v1/models/a:b"),
        *("file:///v1/models/a", "http://a@b/v1/models/a", "http://host/v1/models/a/versions/0"),
    ):
        with pytest.raises(ValueError, match="is no model's URL"):
            parse_url(url)


def test_rest_needs_no_tensorflow():
    code = "import sys, tfseg.serving; print({'tensorflow', 'keras', 'grpc'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert found.stdout.strip() == "set()", found.stderr


def test_labels_as_numbers_without_facts(answering, images, tmp_path):
    labels = np.zeros((50, 30), int)
    labels[10:] = 2
    url = answering(
        {
            "/v1/models/road": (200, READY),
            "/v1/models/road/metadata": (200, signatures(labels="DT_INT32")),
            "/v1/models/road:predict": (200, {"outputs": [labels.tolist()]}),
        }
    )
    lines = []
    (path,) = check(url, images[1:], out=tmp_path / "out", echo=lines.append)
    assert lines[0].endswith("road version 3 is AVAILABLE")
    assert re.search(r"serving_default, REST \d+ ms: 30x50 labels: 2 80.0%, 0 20.0%", lines[1])
    drawn = np.asarray(Image.open(path))
    assert drawn.shape[1] == 30
    assert drawn.shape[0] > 50  # the legend


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({}, r"refuses \(HTTP 404\): Not Found"),
        ({"/v1/models/road": (502, b"<html>Bad Gateway")}, "HTTP 502.*Bad Gateway"),
        ({"/v1/models/road": (200, b"hello")}, "answers no JSON"),
        (
            {"/v1/models/road": (200, status((3, "LOADING", "OK", "")))},
            "'road' is not loaded: version 3 is LOADING",
        ),
        (
            {"/v1/models/road": (200, status((3, "END", "NOT_FOUND", "no saved_model.pb")))},
            r"version 3 is END \(NOT_FOUND: no saved_model.pb\)",
        ),
    ],
)
def test_servers_that_are_not_ready(answering, images, tmp_path, answers, message):
    with pytest.raises(ServingError, match=message):
        check(answering(answers), images, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_errors_end_in_a_message(images, tmp_path):
    found = run("http://127.0.0.1:9/v1/models/road", *images, "--out", tmp_path / "out")
    assert found.exit_code == 1
    assert "http://127.0.0.1:9 does not answer: " in found.output
    (tmp_path / "info.json").write_text("{}")
    found = run("http://127.0.0.1:9/v1/models/a", *images, "--info", tmp_path / "info.json")
    assert "is no model_info.json" in found.output
    other = tmp_path / "other"
    other.mkdir()
    (other / "grey.png").touch()
    found = run("http://127.0.0.1:9/v1/models/a", images[1], other / "grey.png")
    assert "one name" in found.output


def test_a_server_that_takes_too_long(images, tmp_path):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1/models/road"
        found = run(url, *images, "--timeout", "0.3")
    assert "no answer within 0.3 s" in found.output


def test_differences_are_named():
    labels = np.zeros((1, 40, 50), np.int32)
    few, many = labels.copy(), labels.copy()
    few[0, 0, :2], many[0, 0, :3] = 1, 1
    boxes = np.full((1, 2, 4), 100, np.float32)
    one = {"labels": labels, "boxes": boxes}
    assert differences(one, {"labels": few, "boxes": boxes + 0.05}) == []
    assert differences(one, {"labels": many, "boxes": boxes}) == ["labels in 0.15% of the values"]
    assert differences(one, {"labels": labels, "boxes": boxes + 1}) == ["boxes by up to 1"]
    found = differences(one, {"labels": labels, "boxes": boxes[:, :1]})
    assert found == ["boxes of shapes (1, 2, 4) and (1, 1, 4)"]
    assert "outputs" in differences(one, {"labels": labels})[0]


@pytest.mark.slow
def test_semantic_answers_are_compared_and_drawn(server, images, tmp_path):
    info = server.folder / "road/1/assets.extra/model_info.json"
    url, out = f"{server.rest}/v1/models/road", tmp_path / "out"
    found = run(url, *images, "--grpc", server.grpc, "--info", info, "--out", out)
    assert found.exit_code == 0, found.output
    assert found.output.count("road version 1 is AVAILABLE") == 2
    assert re.search(r"photo.jpg: png, REST \d+ ms, gRPC \d+ ms: 40x60 labels: ", found.output)
    assert re.search(r"(sky|road|car|tree) \d+", found.output)
    drawn = np.asarray(Image.open(out / "photo.png"))
    borders = drawn[:60].reshape(-1, 3)  # a label's borders are of its full colour
    assert {tuple(color) for color in borders.tolist()} & set(COLORS)
    plain = run(f"{server.rest}/v1/models/plain/versions/1", *images, "--out", out)
    assert plain.exit_code == 0, plain.output
    assert "grey.png: serving_default, REST" in plain.output


@pytest.mark.slow
def test_objects_are_compared_and_drawn(server, images, tmp_path):
    info = server.folder / "things/1/assets.extra/model_info.json"
    url, out = f"{server.rest}/v1/models/things", tmp_path / "out"
    found = run(url, *images, "--grpc", server.grpc, "--info", info, "--out", out)
    assert found.exit_code == 0, found.output
    assert re.search(r"gRPC \d+ ms: 3 objects: bird 0\.\d\d, cat 0\.\d\d, dog 0", found.output)
    assert Image.open(out / "photo.png").size == (40, 60)
    assert run(url, *images, "--out", out).exit_code == 0  # without names


@pytest.mark.slow
def test_refusals_of_a_server(server, loopback, images, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(images[1].read_bytes()[:60])
    url = f"{server.rest}/v1/models/road"
    found = run(url, bad, images[1], "--grpc", server.grpc, "--out", tmp_path / "out")
    assert found.exit_code == 1
    assert "1 of 2 images failed:" in found.output
    assert re.search(r"bad.png: http\S+ refuses \(HTTP 400\): ", found.output)
    assert (tmp_path / "out/grey.png").exists()
    assert "HTTP 404" in run(f"{server.rest}/v1/models/nobody", bad).output
    assert "HTTP 404" in run(f"{url}/versions/7", bad).output
    assert "127.0.0.1:9 does not answer over gRPC" in run(url, bad, "--grpc", "127.0.0.1:9").output
    late = run(f"{loopback.rest}/v1/models/late", bad)
    assert "'late' is not loaded: version 1 is LOADING" in late.output
