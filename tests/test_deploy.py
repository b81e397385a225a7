"""The files of deploy/: they are what their readers take, and agree with each other."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message_factory,
    text_format,
    wrappers_pb2,
)

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"
BASE = ["docker-compose.yml"]


def read(name):
    return yaml.safe_load((DEPLOY / name).read_text())


def serving(*names):
    """The server of compose files, merged as docker compose merges them."""
    found = {}
    for name in names:
        found |= read(name)["services"]["serving"]
    return found


def kubernetes(kind):
    (found,) = (
        part
        for part in yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())
        if part["kind"] == kind
    )
    return found


def container():
    (found,) = kubernetes("Deployment")["spec"]["template"]["spec"]["containers"]
    return found


def flags(arguments):
    assert all(argument.startswith("--") for argument in arguments)
    return dict(argument[2:].split("=", 1) for argument in arguments)


def message_class(name, fields):
    """A message of the server's that tensorflow-serving-api does not have.

    Args:
        name: of the message.
        fields: of each its name and number, as the .proto file has them, and its type: a scalar
            of `descriptor_pb2.FieldDescriptorProto`, or the name of a message.
    """
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{name}.proto", package="deploy", syntax="proto3"
    )
    file.dependency.append(wrappers_pb2.DESCRIPTOR.name)
    for message, members in fields.items():
        described = file.message_type.add(name=message)
        for field, (number, kind, *repeated) in members.items():
            label = 3 if repeated else 1
            added = described.field.add(name=field, number=number, label=label)
            if isinstance(kind, str):
                added.type, added.type_name = 11, kind
            else:
                added.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"deploy.{name}"))


def parse(name, message):
    return text_format.Parse((DEPLOY / name).read_text(), message)


def models():
    config = pytest.importorskip("tensorflow_serving.config.model_server_config_pb2")
    return list(parse("models.config", config.ModelServerConfig()).model_config_list.config)


def monitoring():
    """tensorflow_serving/config/monitoring_config.proto"""
    scalar = descriptor_pb2.FieldDescriptorProto
    fields = {
        "PrometheusConfig": {
            "enable": (1, scalar.TYPE_BOOL),
            "path": (2, scalar.TYPE_STRING),
        },
        "MonitoringConfig": {"prometheus_config": (1, ".deploy.PrometheusConfig")},
    }
    found = parse("monitoring.config", message_class("MonitoringConfig", fields)())
    return found.prometheus_config


def batching():
    """tensorflow_serving/servables/tensorflow/session_bundle_config.proto"""
    scalar = descriptor_pb2.FieldDescriptorProto
    number, text = ".google.protobuf.Int64Value", ".google.protobuf.StringValue"
    fields = {
        "max_batch_size": (1, number),
        "batch_timeout_micros": (2, number),
        "max_enqueued_batches": (3, number),
        "num_batch_threads": (4, number),
        "thread_pool_name": (5, text),
        "allowed_batch_sizes": (6, scalar.TYPE_INT64, "repeated"),
        "pad_variable_length_inputs": (7, scalar.TYPE_BOOL),
    }
    name = "BatchingParameters"
    return parse("batching.config", message_class(name, {name: fields})())


def test_one_server_of_one_version():
    (image,) = {serving(*BASE)["image"], container()["image"]}
    asked = re.search(r"tensorflow-cpu>=(\S+)", (DEPLOY.parent / "setup.cfg").read_text())
    assert re.fullmatch(rf"tensorflow/serving:{asked[1]}\.\d+", image)
    assert serving(*BASE, "docker-compose.gpu.yml")["image"] == f"{image}-gpu"


def test_ports_are_the_same_everywhere():
    compose, pod = serving(*BASE), container()
    service = kubernetes("Service")["spec"]["ports"]
    named = {port["name"]: port["containerPort"] for port in pod["ports"]}
    assert named == {"grpc": 8500, "rest": 8501}
    assert {port["name"]: port["port"] for port in service} == named
    assert all(port["targetPort"] == port["name"] for port in service)
    for given in (flags(compose["command"]), flags(pod["args"])):
        assert (given["port"], given["rest_api_port"]) == ("8500", "8501")
    # This machine alone: the server asks for no password.
    assert compose["ports"] == [f"127.0.0.1:{port}:{port}" for port in named.values()]
    assert read(BASE[0])["services"]["prometheus"]["ports"] == ["127.0.0.1:9090:9090"]


def test_flags_name_files_that_are_mounted():
    compose, pod = serving(*BASE), container()
    assert compose["volumes"] == ["../saved_models:/models:ro", ".:/config:ro"]
    assert {mount["mountPath"] for mount in pod["volumeMounts"]} == {"/models", "/config"}
    assert all(mount["readOnly"] for mount in pod["volumeMounts"])
    (generated,) = read("kustomization.yaml")["configMapGenerator"]
    spec = kubernetes("Deployment")["spec"]["template"]["spec"]
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    assert {mount["name"] for mount in pod["volumeMounts"]} == set(volumes)
    assert volumes["config"]["configMap"]["name"] == generated["name"]
    claim = kubernetes("PersistentVolumeClaim")["metadata"]["name"]
    assert volumes["models"]["persistentVolumeClaim"]["claimName"] == claim
    batched = serving(*BASE, "docker-compose.batching.yml")["command"]
    for arguments, there in (
        (compose["command"], [p.name for p in DEPLOY.iterdir()]),
        (batched, [p.name for p in DEPLOY.iterdir()]),
        (pod["args"], generated["files"]),
    ):
        given = flags(arguments)
        files = {name: value for name, value in given.items() if name.endswith("_file")}
        assert {"model_config_file", "monitoring_config_file"} <= set(files)
        assert all(Path(f).parent == Path("/config") for f in files.values())
        assert all(Path(f).name in there for f in files.values())


def test_batching_is_the_same_server_with_two_flags_more():
    more = serving(*BASE, "docker-compose.batching.yml")["command"]
    assert more[:-2] == serving(*BASE)["command"]
    assert [flag.partition("=")[0] for flag in more[-2:]] == [
        *("--enable_batching", "--batching_parameters_file")
    ]


def test_models_lie_where_the_demo_exports_and_probes_ask():
    (model,) = models()
    assert model.base_path == f"/models/{model.name}"
    assert model.model_platform == "tensorflow"
    demo = (DEPLOY.parent / "scripts/demo.py").read_text()
    assert f'EXPORT = Path("saved_models/{model.name}")' in demo
    pod = container()
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert pod[probe]["httpGet"] == {"path": f"/v1/models/{model.name}", "port": "rest"}


def test_prometheus_asks_where_the_server_answers():
    (job,) = read("prometheus.yml")["scrape_configs"]
    assert monitoring().enable
    assert job["metrics_path"] == monitoring().path
    assert job["static_configs"] == [{"targets": ["serving:8501"]}]
    template = kubernetes("Deployment")["spec"]["template"]["metadata"]["annotations"]
    assert template["prometheus.io/path"] == monitoring().path
    assert template["prometheus.io/port"] == "8501"


def test_batches_are_of_any_size_and_images_are_not_padded():
    parameters = batching()
    assert parameters.max_batch_size.value > 1
    assert parameters.num_batch_threads.value >= 1
    assert not parameters.allowed_batch_sizes
    assert not parameters.pad_variable_length_inputs


def test_the_deployment_selects_its_own_pods_within_limits():
    spec = kubernetes("Deployment")["spec"]
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"] == kubernetes("Service")["spec"]["selector"] == labels
    limits = container()["resources"]["limits"]
    given = flags(container()["args"])
    for kind in ("intra", "inter"):
        assert given[f"tensorflow_{kind}_op_parallelism"] == limits["cpu"]
    assert limits["memory"].lower().startswith(serving(*BASE)["mem_limit"])


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="there is no kubectl")
def test_kustomize_builds_the_manifest_with_the_files():
    command = ["kubectl", "kustomize", str(DEPLOY)]
    built = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    parts = {part["kind"]: part for part in yaml.safe_load_all(built)}
    assert set(parts) == {"ConfigMap", "Deployment", "PersistentVolumeClaim", "Service"}
    files = parts["ConfigMap"]["data"]
    assert files == {name: (DEPLOY / name).read_text() for name in files}
    volumes = parts["Deployment"]["spec"]["template"]["spec"]["volumes"]
    assert parts["ConfigMap"]["metadata"]["name"] in [
        volume["configMap"]["name"] for volume in volumes if "configMap" in volume
    ]
