"""Masks: N:M along the hardware's axis, blocks and single zeros; methods that choose them, and what they leave.

found = find_weights(view)
report = check(view, found, parse_pattern("2:4"))
"""
