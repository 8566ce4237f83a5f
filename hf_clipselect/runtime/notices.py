"""Which of the package's warnings are about the selection, and belong into its report."""

# `logger.warning(..., extra=NOT_IN_REPORT)` is for what is about the folder, the machine or the time that a run takes:
# the next run would say something else of the same selection.
NOT_IN_REPORT = {"in_report": False}
