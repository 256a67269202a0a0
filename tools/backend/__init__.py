"""ONNX's backend test cases as models to prune: the forms of a case, and the trial of one form."""
