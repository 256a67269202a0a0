"""Random small but realistic ONNX graphs, put together from blocks over a current tensor."""

from tests.property.graphs.models import random_model

__all__ = ["random_model"]
