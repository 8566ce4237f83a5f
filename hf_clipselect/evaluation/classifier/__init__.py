"""Training an image classifier on a dataset or a subset of it, with transformers."""

from .architectures import ARCHITECTURES, PRETRAINED
from .classifier_accuracy import top_k_accuracy
from .eval_sets import EvalSet
from .fitting import Fitted, SetResult, fit_and_test
from .training_arguments import ClassifierArguments, ClassifierTrainingArguments, parse_training_arguments
from .training_run import train_classifier
from .worth_table import comparison_table


__all__ = [
    "ARCHITECTURES",
    "PRETRAINED",
    "ClassifierArguments",
    "ClassifierTrainingArguments",
    "EvalSet",
    "Fitted",
    "SetResult",
    "comparison_table",
    "fit_and_test",
    "parse_training_arguments",
    "top_k_accuracy",
    "train_classifier",
]
