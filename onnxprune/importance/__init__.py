"""How much each unit matters: criteria by name, and their scores brought to a common scale.

score(coupling)                       # group L2 magnitude, divided by each group's mean
score(coupling, "random", seed=1)     # the control
"""

from onnxprune.importance.registry import Context, Criterion, criteria, criterion
from onnxprune.importance.scores import Scores, score

__all__ = ["Context", "Criterion", "Scores", "criteria", "criterion", "score"]
