from cunet_deploy.evaluation.landmarks import Evaluation, compare, evaluate, open_model
from cunet_deploy.evaluation.measure import Measure
from cunet_deploy.evaluation.tta import ONCE, TTA

__all__ = ["ONCE", "TTA", "Evaluation", "Measure", "compare", "evaluate", "open_model"]
