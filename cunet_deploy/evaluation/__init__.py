from cunet_deploy.evaluation.landmarks import Evaluation, Measure, compare, evaluate, open_model

__all__ = ["Evaluation", "Measure", "compare", "evaluate", "open_model"]
