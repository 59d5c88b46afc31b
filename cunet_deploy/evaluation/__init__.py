from cunet_deploy.evaluation.landmarks import Evaluation, compare, evaluate, open_model
from cunet_deploy.evaluation.looks import ONCE, Looks
from cunet_deploy.evaluation.measure import Measure

__all__ = ["ONCE", "Evaluation", "Looks", "Measure", "compare", "evaluate", "open_model"]
