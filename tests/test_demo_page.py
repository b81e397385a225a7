"""The page of `tfseg demo`, in parts and in a browser."""

import base64
import importlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from urllib.parse import urlsplit

import keras
import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner
from detector_stand_in import PLAIN, StandIn
from PIL import Image
from selenium import webdriver

import tfseg
from tfseg import demo_page
from tfseg.cli import main
from tfseg.data import open_reader
from tfseg.demo_model import DemoModel, Row
from tfseg.export import export
from tfseg.export_detector import export_detector
from tfseg.predict import DetectionPredictor, Predictor, draw_detections
from tfseg.visualize import overlay

RED = np.array([255, 0, 16], np.uint8)


def test_tables_have_the_columns_that_have_values():
    columns, lines = demo_page.table([Row("sky", RED, 0.25, 0.98765), Row("car", RED, 0.75, None)])
    assert [column["label"] for column in columns] == ["", "class", "pixels", "score"]
    sky = {"number": 0, "color": "#ff0010", "name": "sky", "share": "25.0%", "score": "0.988"}
    assert lines == [sky, {**sky, "number": 1, "name": "car", "share": "75.0%", "score": ""}]
    columns, _ = demo_page.table([Row("car", RED, None, 0.5)])
    assert [column["label"] for column in columns] == ["", "class", "score"]


@pytest.mark.parametrize(
    ("shape", "size"), [((30, 40, 3), (40, 30)), ((6, 4096, 1), (2048, 3)), ((9, 7, 1), (7, 9))]
)
def test_large_pictures_are_shrunk(shape, size):
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    shown = demo_page.picture(image)
    assert shown.size == size
    if size == shape[1::-1]:
        np.testing.assert_array_equal(np.asarray(shown), image.squeeze())


def test_a_port_that_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        model = DemoModel("name", (), None, lambda image: None)
        with pytest.raises(ValueError, match=f"cannot listen at 127.0.0.1, port {port}"):
            demo_page.serve(model, "127.0.0.1", port, browser=False)


def test_the_extra_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.delitem(sys.modules, "tfseg.demo_page")
    monkeypatch.setitem(sys.modules, "nicegui", None)
    with pytest.raises(ImportError, match=r"pip install 'tfseg\[demo\]'"):
        importlib.import_module("tfseg.demo_page")


def test_a_mistake_ends_in_a_message(tmp_path):
    result = CliRunner().invoke(main, ["demo", str(tmp_path), "--no-browser"])
    assert result.exit_code == 1
    assert "saved_model.pb is missing: give the folder of a SavedModel" in result.output


class Browser:
    """Headless Chromium, which reaches this machine alone."""

    def __init__(self, chromium, chromedriver):
        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        for flag in (
            "--headless=new",
            "--no-sandbox",  # which root has none
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        ):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
        service = webdriver.ChromeService(chromedriver)
        self.driver = webdriver.Chrome(options=options, service=service)
        screen = {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)

    def open(self, url):
        for kind in ("performance", "browser"):
            self.driver.get_log(kind)  # which forgets what it gives
        self.driver.get(url)
        self.until(lambda: self.find(".demo-drop"))

    def find(self, selector):
        return self.driver.find_elements("css selector", selector)

    def until(self, reached, seconds=60):
        end = time.monotonic() + seconds
        while not (found := reached()):
            assert time.monotonic() < end, self.find("body")[0].text
            time.sleep(0.05)
        return found

    def drop(self, file):
        """Drags a file onto the page, as a user does, and waits until the page tells of it."""
        box = self.find(".demo-drop")[0].rect
        place = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
        data = {"items": [], "files": [str(file)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            event = {"type": kind, **place, "data": data}
            self.driver.execute_cdp_cmd("Input.dispatchDragEvent", event)
        self.until(lambda: self.status.startswith(file.name))

    def slide(self, number, place):
        """Clicks a slider at a place of 0..1 and gives the value that it then shows."""
        slider = self.find(".q-slider")[number]
        value = slider.find_element("xpath", "following-sibling::div")
        actions = webdriver.ActionChains(self.driver)
        actions.move_to_element_with_offset(slider, int((place - 0.5) * slider.rect["width"]), 0)
        before = value.text
        actions.click().perform()
        self.until(lambda: value.text != before)
        return float(value.text)

    @property
    def status(self):
        return self.find(".demo-status")[0].text

    def table(self):
        """The texts of the table's lines, and the colours beside them."""
        lines = self.find(".q-table tbody tr")
        texts = [[c.text for c in line.find_elements("css selector", "td")[1:]] for line in lines]
        swatches = self.find(".q-table tbody td div")
        return texts, [swatch.value_of_css_property("background-color") for swatch in swatches]

    def overlay(self):
        """The pixels of the result."""
        script = """
            const done = arguments[arguments.length - 1];
            const image = document.querySelector(".demo-overlay img");
            fetch(image.src).then((r) => r.blob()).then((blob) => {
              const reader = new FileReader();
              reader.onload = () => done(reader.result.split(",")[1]);
              reader.readAsDataURL(blob);
            });
        """
        self.until(lambda: self.find(".demo-overlay img"))
        return _pixels(base64.b64decode(self.driver.execute_async_script(script)))

    def hosts(self):
        """What was asked for anything since the page was opened."""
        found = set()
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                found.add(urlsplit(message["params"]["request"]["url"]).netloc)
            if message["method"] == "Network.webSocketCreated":
                found.add(urlsplit(message["params"]["url"]).netloc)
        return found - {""}  # blobs and data in the page itself


def _pixels(file):
    with Image.open(io.BytesIO(file)) as image:
        return np.asarray(image.convert("RGB"))


@pytest.fixture(scope="module")
def browser():
    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if not all(programs):
        missing = "chromium or chromedriver is not installed"
        if os.environ.get("CI"):
            pytest.fail(f"{missing}, in CI")
        pytest.skip(missing)
    opened = Browser(*programs)
    yield opened
    opened.driver.quit()


@pytest.fixture
def serve(tmp_path):
    """``serve(model)``: runs `tfseg demo` and gives its URL."""
    started = []

    def start(model):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        words = [sys.executable, "-m", "tfseg.cli", "demo", model, "--port", port, "--no-browser"]
        # NiceGUI behaves otherwise where it finds this.
        environment = {k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST"}
        process = subprocess.Popen(
            [str(word) for word in words],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        line = process.stdout.readline()  # the last thing before it answers
        url = f"http://127.0.0.1:{port}"
        assert url in line, process.communicate()
        return url

    yield start
    for process in started:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        assert "Traceback" not in errors


def _seen(screen, box):
    """The part of a screenshot that an element covers."""
    x, y, width, height = (round(box[key]) for key in ("x", "y", "width", "height"))
    return screen[y : y + height, x : x + width].astype(float)


@pytest.mark.slow
def test_an_image_dropped_on_a_semantic_models_page(browser, serve, tmp_path):
    keras.utils.set_random_seed(2)
    model = tfseg.build("unet", 5, in_channels=3, base_filters=4, padding="same")
    reader = open_reader("shapes", size=(96, 128), count=2, seed=5)
    facts = {"classes": reader.classes, "colors": reader.colors}
    preprocessing = model.spec.preprocessing
    path = export(model, tmp_path / "shapes", preprocessing=preprocessing, **facts)
    picture = reader[1]["image"]
    Image.fromarray(picture).save(tmp_path / "shape.png")
    (tmp_path / "damaged.png").write_bytes((tmp_path / "shape.png").read_bytes()[:999])
    answer = tf.saved_model.load(str(path)).signatures["tensor_uint8"](images=picture[None])
    probabilities, labels = (answer[key][0].numpy() for key in ("probabilities", "labels"))
    # Of a network that has not learnt, near ties may differ.
    assert (Predictor(model, preprocessing)(picture).argmax(-1) == labels).mean() > 0.99
    expected = overlay(picture, labels, reader.colors)

    url = serve(tmp_path / "shapes")
    browser.open(url)
    heading = browser.find("body")[0].text
    assert "shapes, version 1\nsemantic network unet · 5 classes · 121,745 parameters" in heading
    browser.drop(tmp_path / "shape.png")
    assert browser.status == "shape.png: 128 x 96 pixels"
    np.testing.assert_array_equal(browser.overlay(), expected)
    found, counts = np.unique(labels, return_counts=True)
    assert len(found) > 1
    by_share = found[np.argsort(-counts)]
    texts, colors = browser.table()
    assert texts == [
        [
            reader.classes[label],
            f"{(labels == label).mean():.1%}",
            f"{probabilities[labels == label, label].mean():.3f}",
        ]
        for label in by_share
    ]
    assert colors == ["rgba({}, {}, {}, 1)".format(*reader.colors[label]) for label in by_share]

    browser.until(lambda: browser.find(".demo-overlay img")[0].get_property("complete"))
    browser.driver.save_screenshot(str(tmp_path / "screen.png"))
    screen = _pixels((tmp_path / "screen.png").read_bytes())
    assert screen.shape == (900, 1280, 3)
    seen = _seen(screen, browser.find(".demo-overlay img")[0].rect)
    size = seen.shape[1::-1]
    wanted = np.asarray(Image.fromarray(expected).resize(size, Image.Resampling.BILINEAR))
    assert size[0] > 300
    assert np.abs(seen - wanted).mean() < 8
    assert np.abs(seen - wanted[::-1]).mean() > 20
    width = browser.driver.execute_script("return document.documentElement.scrollWidth")
    assert width <= 1280

    browser.drop(tmp_path / "damaged.png")
    assert browser.status.startswith("damaged.png cannot be decoded, it is damaged or truncated")
    assert not browser.find(".demo-answer")[0].is_displayed()
    browser.drop(tmp_path / "shape.png")  # and the page goes on
    np.testing.assert_array_equal(browser.overlay(), expected)
    assert browser.hosts() == {urlsplit(url).netloc}
    assert not [e for e in browser.driver.get_log("browser") if e["level"] == "SEVERE"]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        ["shapes", "shape.png", "damaged.png", "screen.png"]
    )


@pytest.mark.slow
def test_a_detectors_scores_are_chosen_by_a_slider(browser, serve, tmp_path):
    model, names = StandIn(keypoints=True), ("cat", "dog", "bird")
    sizes = {"short_side": 60, "long_side": 100, "divisor": 32}
    export_detector(model, tmp_path / "found", preprocessing=PLAIN, classes=names, **sizes)
    picture = open_reader("shapes", size=(90, 120), count=1, seed=4)[0]["image"]
    Image.fromarray(picture).save(tmp_path / "shape.png")
    objects = DetectionPredictor(model, PLAIN, **sizes)(picture)

    browser.open(serve(tmp_path / "found"))
    browser.drop(tmp_path / "shape.png")
    threshold = 0.5
    for place, count in ((None, 1), (0.25, 3), (0.9, 0)):
        if place is not None:
            threshold = browser.slide(1, place)
            assert threshold == pytest.approx(place, abs=0.05)
        sure = objects.above(threshold)
        expected = draw_detections(picture, sure, names)
        browser.until(lambda wanted=expected: np.array_equal(browser.overlay(), wanted))
        assert len(sure) == count
        shown = [[names[c], f"{s:.3f}"] for c, s in zip(sure.classes, sure.scores, strict=True)]
        assert browser.table()[0] == shown
    assert "nothing found" in browser.find(".q-table__container")[0].text

    opacity = browser.slide(0, 0.3)
    style = browser.find(".demo-overlay")[0].value_of_css_property
    browser.until(lambda: float(style("opacity")) == opacity)
