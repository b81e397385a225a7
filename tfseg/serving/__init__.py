"""Clients of TensorFlow Serving, over REST and gRPC, and `tfseg serve-check`, which uses both."""

from tfseg.serving.check import check
from tfseg.serving.client import ServedModel, ServingError, parse_url
from tfseg.serving.grpc_client import GrpcModel
from tfseg.serving.rest import RestModel

__all__ = ["GrpcModel", "RestModel", "ServedModel", "ServingError", "check", "parse_url"]
