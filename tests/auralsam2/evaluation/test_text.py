"""The text encoder is somebody else's package; here stand small ones in its place."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from auralsam2.errors import DataError
from auralsam2.evaluation.text import NUM_TOKENS, distilroberta, text_encoder
from auralsam2.text.encoder import WordEncoder
from auralsam2.text.tokeniser import Tokeniser


def fake_transformers(asked: list[dict[str, Any]], fault: Exception | None = None) -> ModuleType:
    class Network(torch.nn.Module):
        def forward(self, input_ids: torch.Tensor) -> SimpleNamespace:
            return SimpleNamespace(last_hidden_state=input_ids[..., None].double().expand(1, NUM_TOKENS, 768))

    def tokenizer(expression: str, **options: Any) -> dict[str, torch.Tensor]:
        asked.append({"expression": expression, **options})
        return {"input_ids": torch.arange(NUM_TOKENS)[None]}

    def load(made: Any) -> Any:
        def from_pretrained(name: str) -> Any:
            if fault is not None:
                raise fault
            return made

        return SimpleNamespace(from_pretrained=from_pretrained)

    module = ModuleType("transformers")
    module.AutoModel, module.AutoTokenizer = load(Network()), load(tokenizer)  # type: ignore[attr-defined]
    return module


def test_an_expression_becomes_25_states(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setitem(sys.modules, "transformers", fake_transformers(asked))
    states = distilroberta()("the bell that rings")
    assert states.shape == (1, 25, 768)
    assert states.dtype == torch.float32
    assert states[0, :, 0].tolist() == list(range(25))
    assert asked[0]["expression"] == "the bell that rings"
    assert asked[0]["max_length"] == 25
    assert asked[0]["padding"] == "max_length"
    assert asked[0]["truncation"] is True


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(DataError, match="pip install transformers"):
        distilroberta()


def test_a_model_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", fake_transformers([], OSError("no network")))
    with pytest.raises(DataError, match=r"distilroberta-base: cannot be loaded \(no network\)"):
        distilroberta()


def test_the_width_of_its_states_tells_which_encoder_a_network_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", fake_transformers([]))
    torch.manual_seed(0)
    encoder = WordEncoder(Tokeniser().num_words, 128)
    path = tmp_path / "reads.safetensors"
    save_file({f"t_model.{key}": value for key, value in encoder.state_dict().items()}, path)
    assert text_encoder(768, str(path))("the star").shape == (1, NUM_TOKENS, 768)
    own = text_encoder(128, str(path))
    assert torch.equal(own("the star"), encoder(torch.tensor([Tokeniser()("the star")])))
