"""Models, tensors and shapes: the only code that knows protobuf."""
