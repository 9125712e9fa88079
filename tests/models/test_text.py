"""What only the LSTMs have: the recurrence, the carried state, dropout and norms between the layers."""

import copy

import pytest
import torch
from torch import Tensor

from models.lstm import LSTMLanguageModel
from models.registry import TOKENS
from tests.helpers.models import evaluate, kinds, sample, small

each_text_network = pytest.mark.parametrize("name", TOKENS)


def plain_lstm(network: LSTMLanguageModel, tokens: Tensor) -> Tensor:
    """Compute Zaremba et al. 2014, equations 1-6, token by token from a zero state; no dropout, no norm."""
    size = network.lstms[0].hidden_size
    state = [(torch.zeros(size), torch.zeros(size)) for _ in network.lstms]
    logits = []
    for token in tokens:
        x = network.embedding.weight[token]
        for layer, lstm in enumerate(network.lstms):
            hidden, cell = state[layer]
            gates = lstm.weight_ih_l0 @ x + lstm.bias_ih_l0 + lstm.weight_hh_l0 @ hidden + lstm.bias_hh_l0
            entry, forget, candidate, exit_ = gates.split(size)
            cell = forget.sigmoid() * cell + entry.sigmoid() * candidate.tanh()
            x = exit_.sigmoid() * cell.tanh()
            state[layer] = x, cell
        logits.append(network.decoder.weight @ x + network.decoder.bias)
    return torch.stack(logits)


def test_lstm_is_the_plain_one_and_carries_its_state() -> None:
    network, tokens = small("lstm_ptb", init=0.8, dropout=0.0), torch.randint(7, (2, 9))
    pieces = [network(part) for part in tokens.split(4, dim=1)]  # also carried in training
    expected = torch.stack([plain_lstm(network, line) for line in tokens])
    torch.testing.assert_close(torch.cat(pieces, dim=1), expected)
    network.reset_state()
    torch.testing.assert_close(network(tokens), expected)


@each_text_network
def test_hidden_state_is_reset_copied_and_never_saved(name: str) -> None:
    network, tokens = small(name).eval(), sample(name)
    first = network(tokens)
    assert dict(network.named_buffers())["hidden_state"].shape == (2, 2, network.lstms[0].hidden_size)
    assert not network.hidden_state.requires_grad
    assert not [key for key in network.state_dict() if "state" in key]
    twin = copy.deepcopy(network)
    assert torch.equal(twin(tokens), network(tokens))
    with pytest.raises(
        ValueError, match=r"the carried state is of batch 2, the tokens of 3: call reset_state\(\)"
    ):
        network(torch.zeros(3, 5, dtype=torch.int64))
    network.reset_state()
    assert torch.equal(network(tokens), first)
    network.reset_state()
    assert network(torch.zeros(3, 5, dtype=torch.int64)).shape == (3, 5, 7)


def test_each_forward_replaces_the_state_and_leaves_the_old_one_alone() -> None:
    network, tokens = small("lstm_char"), sample("lstm_char")
    network(tokens)
    held, values = network.cell_state, network.cell_state.clone()
    network(tokens)
    assert torch.equal(held, values)
    assert not torch.equal(network.cell_state, values)


@each_text_network
def test_lstm_drops_on_each_layer_s_input_and_on_the_output(name: str) -> None:
    order = kinds(small(name, layers=3), sample(name))
    norm = "BatchNorm1d" if name == "lstm_char" else "Identity"
    assert order == ["Embedding", *["Dropout", "LSTM", norm] * 3, "Dropout", "Linear"]


def test_lstm_dropout_is_not_on_the_recurrence() -> None:
    """Without an input, a layer's state is the same under any dropout."""
    network, tokens = small("lstm_ptb", init=0.8, dropout=0.9, layers=1), sample("lstm_ptb")
    with torch.no_grad():
        network.lstms[0].weight_ih_l0.zero_()
    network(tokens)
    dropped = network.hidden_state
    evaluate(network, tokens)
    assert torch.equal(network.hidden_state, dropped)


@pytest.mark.parametrize(("name", "bound"), [("lstm_ptb", 0.04), ("lstm_ptb_small", 0.1), ("lstm_char", 0.3)])
def test_lstm_initial_values_fill_their_interval(name: str, bound: float) -> None:
    network = small(name, **({"init": bound} if name == "lstm_char" else {}), embedding=40, hidden=50)
    for key, parameter in network.named_parameters():
        if key.startswith("norms"):
            assert torch.equal(parameter, torch.full_like(parameter, float(key.endswith("weight"))))
        else:
            assert parameter.abs().max() <= bound, key
            assert parameter.std().item() == pytest.approx(bound / 3**0.5, rel=0.5), key


def test_char_lstm_normalises_each_layer_over_batch_and_time() -> None:
    network, tokens = small("lstm_char"), sample("lstm_char", batch=6)
    outputs: list[Tensor] = []
    for norm in network.norms:
        norm.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    network(tokens)
    for output in outputs:
        assert output.shape == (6 * 5, 128)
        torch.testing.assert_close(output.mean(0), torch.zeros(128), atol=1e-5, rtol=0)
