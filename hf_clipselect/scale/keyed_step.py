"""A step of datatrove's that belongs to one selection."""

from datatrove.pipeline.base import PipelineStep


class KeyedStep(PipelineStep):
    """A step on the working folder `work`; `key` is that of the layout or the quotas that its tasks must find.

    A late task of another selection finds another key, and stops.
    """

    type = "hf_clipselect"

    def __init__(self, work: str, key: str) -> None:
        super().__init__()
        self.work, self.key = work, key
