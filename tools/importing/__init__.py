"""What bench_import.py is made of: ONNX's backend cases, and which of them torch cannot be asked for."""
