"""Adjust the weights that are left after units went, from forward passes alone."""
