"""model_card.md shows readers of the repository the card that saved adapters carry."""

from importlib.resources import files
from pathlib import Path

from huggingface_hub import ModelCard


MODEL_CARD = Path(__file__).resolve().parents[2] / "model_card.md"


def test_is_a_copy_of_the_template():
    template = files("hf_clipselect.hub") / "templates" / "adapter_card.md"
    assert MODEL_CARD.read_bytes() == template.read_bytes()


def test_header_is_a_card_by_itself():
    data = ModelCard.load(MODEL_CARD).data
    assert data.library_name == "hf_clipselect"
    assert data.pipeline_tag == "zero-shot-image-classification"
    assert {"hf_clipselect", "peft"} <= set(data.tags)
