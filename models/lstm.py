"""LSTM language models: Penn Treebank (Zaremba et al. 2014: Z) and War and Peace (Entropy-SGD: E)."""

import torch
from torch import Tensor, nn

from models.dropout import Dropout


class LSTMLanguageModel(nn.Module):
    """Embedding, LSTM layers and a linear output over tokens. The hidden state is carried from call to call.

    Dropout is applied to each layer's input and to the output, never to the recurrence (Z).

    The state is in the buffers ``hidden_state`` and ``cell_state`` (layers, B, hidden), which ``state_dict``
    leaves out. Each forward replaces them with new, detached tensors, in training and in evaluation. After
    :meth:`reset_state` B is 0, and the next forward starts from zeros, whatever its batch size.

    Args:
        vocabulary: Number of different tokens.
        embedding: Features of a token.
        hidden: Units of a layer.
        layers: How many layers there are.
        dropout: Rate, in [0, 1).
        norm: Whether the features of each layer's output are batch-normalised (E).
        init: All weights and biases except the norm's are drawn from U(-init, init) (Z). ``None`` leaves
            PyTorch's.

    Raises:
        ValueError: A size or rate is out of range.
    """

    hidden_state: Tensor
    cell_state: Tensor

    def __init__(
        self,
        vocabulary: int,
        embedding: int,
        hidden: int,
        layers: int,
        dropout: float,
        norm: bool,
        init: float | None,
    ) -> None:
        super().__init__()
        for name, size in (("embedding", embedding), ("hidden", hidden), ("layers", layers)):
            if size < 1:
                raise ValueError(f"{name} is {size}: expected 1 or more")
        self.dropout = Dropout(dropout)
        self.embedding = nn.Embedding(vocabulary, embedding)
        # one module per layer, so that our own dropout can be applied between them
        self.lstms = nn.ModuleList(nn.LSTM(hidden if layer else embedding, hidden) for layer in range(layers))
        self.norms = nn.ModuleList(nn.BatchNorm1d(hidden) if norm else nn.Identity() for _ in range(layers))
        self.decoder = nn.Linear(hidden, vocabulary)
        if init is not None:
            for module in (self.embedding, *self.lstms, self.decoder):
                for parameter in module.parameters():
                    nn.init.uniform_(parameter, -init, init)
        for name in ("hidden_state", "cell_state"):
            self.register_buffer(name, torch.zeros(layers, 0, hidden), persistent=False)

    def reset_state(self) -> None:
        """Forget the carried state, so that the next forward starts from zeros."""
        layers, _, hidden = self.hidden_state.shape
        self.hidden_state = self.hidden_state.new_zeros(layers, 0, hidden)
        self.cell_state = self.cell_state.new_zeros(layers, 0, hidden)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens (B, T), int64, to logits (B, T, vocabulary), and carry the state over these T steps.

        Raises:
            ValueError: The carried state has another batch size.
        """
        x = self.embedding(tokens.t())  # time first, as cuDNN wants it
        hidden, cell = self._state_for(tokens.shape[0])
        states = []
        for layer, (lstm, norm) in enumerate(zip(self.lstms, self.norms, strict=True)):
            x, state = lstm(self.dropout(x), (hidden[layer : layer + 1], cell[layer : layer + 1]))
            x = norm(x.flatten(0, 1)).view_as(x)
            states.append(state)
        # in the module's own type: under autocast an LSTM returns a state of 16 bits, which it only takes
        # there
        dtype = self.hidden_state.dtype
        self.hidden_state, self.cell_state = (
            torch.cat(parts).detach().to(dtype) for parts in zip(*states, strict=True)
        )
        return self.decoder(self.dropout(x).transpose(0, 1))

    def _state_for(self, batch: int) -> tuple[Tensor, Tensor]:
        layers, carried, hidden = self.hidden_state.shape
        if carried == 0:
            zeros = self.hidden_state.new_zeros(layers, batch, hidden)
            return zeros, zeros
        if carried != batch:
            raise ValueError(
                f"the carried state is of batch {carried}, the tokens of {batch}: call reset_state()"
            )
        return self.hidden_state, self.cell_state


def lstm_ptb(
    vocabulary: int,
    *,
    embedding: int = 1500,
    hidden: int = 1500,
    layers: int = 2,
    dropout: float = 0.65,
    init: float | None = 0.04,
) -> LSTMLanguageModel:
    """Build Zaremba's large network: 66,034,000 parameters with a vocabulary of 10,000.

    Input and hidden biases are separate. See :class:`LSTMLanguageModel` for arguments and errors.
    """
    return LSTMLanguageModel(vocabulary, embedding, hidden, layers, dropout, norm=False, init=init)


def lstm_ptb_small(
    vocabulary: int,
    *,
    embedding: int = 200,
    hidden: int = 200,
    layers: int = 2,
    dropout: float = 0.0,
    init: float | None = 0.1,
) -> LSTMLanguageModel:
    """Build Zaremba's small network, which a CPU can train: 4,653,200 parameters with a vocabulary of 10,000.

    See :class:`LSTMLanguageModel` for arguments and errors.
    """
    return LSTMLanguageModel(vocabulary, embedding, hidden, layers, dropout, norm=False, init=init)


def lstm_char(
    vocabulary: int,
    *,
    embedding: int = 85,
    hidden: int = 128,
    layers: int = 2,
    dropout: float = 0.0,
    init: float | None = None,
) -> LSTMLanguageModel:
    """Build Entropy-SGD's character network, BN after each layer (E): 261,306 parameters with 87 symbols.

    See :class:`LSTMLanguageModel` for arguments and errors.
    """
    return LSTMLanguageModel(vocabulary, embedding, hidden, layers, dropout, norm=True, init=init)
