"""`python -m onnxprune` is the console script too."""

from onnxprune.cli import main

main()
