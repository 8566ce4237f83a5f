"""Train an image classifier on a dataset, or on a subset that was selected from it, and test it.

    python recipes/train_classifier.py                                      # resnet-20 on the embedded digits
    python recipes/train_classifier.py --config recipes/cifar10/train.yaml
    python recipes/train_classifier.py --dataset_name clipselect_output/subset --dataset_config_name ratio_30 \\
        --eval_dataset embedded/digits:test --architecture resnet-18
    python recipes/train_classifier.py --dataset_name me/imagenet-scores --selection_ratio 0.9 \\
        --architecture resnet-50 --eval_dataset ILSVRC/imagenet-1k:validation path/to/imagenet-r:test
    python recipes/train_classifier.py --dataset_name clipselect_output --selection_ratio 0.3 \\
        --compare_with random full
    torchrun --nproc_per_node 4 recipes/train_classifier.py ... --bf16      # or accelerate launch

Takes all flags of transformers' TrainingArguments (--bf16, --fp16, --resume_from_checkpoint true, --push_to_hub, ...),
and ours: --help. Prints the accuracy on every set, and leaves in --output_dir the model, its image processor,
README.md with the figures in its index of results, results.json and the last checkpoint. With --compare_with it makes
the same training on as many random rows and on all rows, by three seeds, and prints one table, also comparison.md: is
the selection worth it? The same command goes on where it was stopped.
"""

import os
import sys


# Python puts this folder first on its path, where select.py would hide the standard library's `select`.
_HERE = os.path.dirname(os.path.realpath(__file__))
sys.path[:] = [folder for folder in sys.path if os.path.realpath(folder or os.getcwd()) != _HERE]

import logging

from hf_clipselect.errors import InputError, RunError
from hf_clipselect.evaluation.classifier import comparison_table, parse_training_arguments, train_classifier
from hf_clipselect.pipeline.run_log import logged_to_stderr
from hf_clipselect.runtime.launch import exit_now
from hf_clipselect.runtime.terminal import error_line, is_main_process, printable


def main() -> int:
    try:
        arguments, training = parse_training_arguments()
        with logged_to_stderr(logging.INFO if is_main_process() else logging.ERROR):
            results = train_classifier(arguments, training)
    except (InputError, RunError) as error:
        sys.stderr.write(error_line(error))
        code = 2 if isinstance(error, InputError) else 1
        exit_now(code)
        return code
    if is_main_process():
        print_results(results, training.output_dir)
    return 0


def print_results(results: dict, output_dir: str) -> None:
    model, train = results["model"], results["train"]
    print(
        f"{model['architecture']}, {model['num_parameters']:,} parameters, trained on {train['num_rows']:,} rows of "
        f"{printable(train['dataset_name'])} for {train['num_steps']:,} steps in {train['seconds']} s"
    )
    for name, figures in results["eval"].items():
        line = f"{printable(name)}: accuracy {100 * figures['accuracy']:.2f} %"
        if "top_5_accuracy" in figures:
            line += f", top-5 {100 * figures['top_5_accuracy']:.2f} %"
        if (paper := results.get("paper", {}).get(name)) is not None:
            deviation = "" if paper["deviation"] is None else f" ± {paper['deviation']:.2f}"
            line += f"; the paper's figure is {paper['figure']:.2f}{deviation} % (table {paper['table']})"
        print(f"{line} ({figures['num_rows']:,} rows, {figures['num_classes']:,} classes)")
    if "comparison" in results:
        print("\n" + "\n".join(map(printable, comparison_table(results["comparison"]).splitlines())) + "\n")
    print(f"model: {printable(output_dir)}")


if __name__ == "__main__":
    sys.exit(main())
