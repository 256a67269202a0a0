"""ONNX Runtime: sessions, measured shapes, and the check that a written file loads and runs."""
