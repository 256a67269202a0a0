"""Architectures that no library offers in a small form, each a page of plain torch."""
