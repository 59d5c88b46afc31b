from cunet_deploy.evaluation.landmarks import Evaluation, compare, evaluate, open_model
from cunet_deploy.evaluation.looks import Looks
from cunet_deploy.evaluation.measure import Measure

__all__ = ["Evaluation", "Looks", "Measure", "compare", "evaluate", "open_model"]
