"""Models that read over time as users write it: right for a row alone, and what padding does to them."""

import inspect
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  torch's own abbreviation
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

FEATURES = 3
HIDDEN = 4


def line_of(function: Callable[..., Any], code: str) -> str:
    """Return the line of a function that holds this code, as the exporter shows it."""
    lines, first = inspect.getsourcelines(function)
    number, line = next((number, line) for number, line in enumerate(lines, first) if code in line)
    return f"{Path(inspect.getfile(function)).relative_to(Path.cwd())}:{number}: {line.strip()}"


class _Steps(nn.Module):
    """The steps of a bidirectional layer, which zero beyond a row's end when they know it."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, HIDDEN // 2, batch_first=True, bidirectional=True)
        self.shift = nn.Parameter(torch.full((HIDDEN,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.lstm(x)[0]
        return y + self.shift


class Reductions(nn.Module):
    """Every way to make one number of many steps."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = _Steps()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = self.steps(x)
        z = y.transpose(1, 2)
        largest, place = y.max(1)
        smallest, first = torch.min(y, dim=1, keepdim=True)
        return {
            "last": y[:, -1],
            "last_kept": y[:, -1:].flatten(1),
            "last_by_size": y[:, y.size(1) - 1],
            "middle": y[:, y.size(1) // 2],
            "second_half": y[:, y.size(1) // 2 :].sum(1),
            "mean": y.mean(1),
            "mean_kept": y.mean(dim=1, keepdim=True).squeeze(1),
            "mean_of_two": y.mean((1, 2)),
            "mean_by_hand": y.sum(1) / y.size(1),
            "mean_by_root": y.sum(1) / y.size(1) ** 0.5,
            "sum": y.sum(-2),
            "product": torch.tanh(y).prod(1),
            "max": largest,
            "argmax_of_max": place,
            "min": smallest.squeeze(1),
            "argmin_of_min": first.squeeze(1),
            "amax": y.amax(1),
            "amin": (y + 2).amin(dim=1),
            "argmax": y.argmax(1),
            "argmin": y.argmin(dim=1),
            "any": (y > 0.9).any(1).long(),
            "all": (y > -0.9).all(dim=1).long(),
            "var": (y * 3 + torch.arange(y.size(1))[None, :, None]).var(1, unbiased=False),
            "std": torch.std(y, dim=1, correction=0),
            "norm": y.norm(dim=1),
            "normalized": F.normalize(y, dim=1),
            "logsumexp": y.logsumexp(1),
            "softmax": y.softmax(1),
            "log_softmax": F.log_softmax(y, dim=1),
            "count": (y.argmax(-1) == 1).sum(1),
            "total": torch.cumsum(y, dim=1)[:, -1],
            "differences": (y[:, 1:] - y[:, :-1]).abs().sum(1),
            "flipped": y.flip(1),
            "flipped_twice": y.flip([1, 2]),
            "rolled": torch.roll(y, 1, 1),
            "median": y.sort(dim=1).values[:, y.size(1) // 2],
            "largest": y.topk(1, dim=1).values.squeeze(1),
            "pooled": F.adaptive_avg_pool1d(z, 1).squeeze(-1),
            "max_pooled": F.adaptive_max_pool1d(z, 1).squeeze(-1),
            "pooled_2d": F.adaptive_avg_pool2d(y.unsqueeze(1), 1).flatten(1),
        }


class Attention(nn.Module):
    """Attention as it is written around recurrent layers."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = _Steps()
        self.score = nn.Linear(HIDDEN, 1)
        self.heads = nn.MultiheadAttention(HIDDEN, 2, batch_first=True)
        self.time_major = nn.MultiheadAttention(HIDDEN, 2)
        self.encoder = nn.TransformerEncoderLayer(HIDDEN, 2, 8, batch_first=True)
        self.query = nn.Parameter(torch.randn(1, 1, HIDDEN))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = self.steps(x)
        column = torch.softmax(self.score(y), dim=1)
        row = torch.softmax(self.score(y).squeeze(-1), dim=-1)
        scores = y @ y.transpose(1, 2) / math.sqrt(HIDDEN)
        split = y.unflatten(-1, (2, -1)).transpose(1, 2)
        future = torch.ones(y.size(1), y.size(1), dtype=torch.bool).tril()
        ramp = torch.arange(y.size(1)).float().neg()[None, :].expand(y.size(1), -1)
        hidden, weights = self.heads(y, y, y)
        major = y.transpose(0, 1)
        asked, _ = self.heads(self.query.expand(y.size(0), -1, -1), y, y, need_weights=False)
        return {
            "column": (column * y).sum(1),
            "column_product": torch.bmm(column.transpose(1, 2), y).squeeze(1),
            "row": torch.bmm(row.unsqueeze(1), y).squeeze(1),
            "row_einsum": torch.einsum("bt,bth->bh", row, y),
            "unweighted": torch.einsum("b t h, b t k -> b h k", y, y),
            "gram": y.transpose(1, 2) @ y,
            "self": torch.softmax(scores, -1) @ y,
            "self_causal": torch.softmax(scores.masked_fill(~future, -torch.inf), -1) @ y,
            "per_head": (torch.softmax(split @ split.transpose(-2, -1), -1) @ split).transpose(1, 2).flatten(2),
            "sdpa": F.scaled_dot_product_attention(y, y, y),
            "sdpa_heads": F.scaled_dot_product_attention(split, split, split).transpose(1, 2).flatten(2),
            "sdpa_causal": F.scaled_dot_product_attention(y, y, y, is_causal=True),
            "sdpa_mask": F.scaled_dot_product_attention(y, y, y, attn_mask=future),
            "sdpa_bias": F.scaled_dot_product_attention(y, y, y, attn_mask=ramp),
            "mha": hidden,
            "mha_weight_of_first": weights[:, :, 0],
            "mha_unweighted": self.heads(y, y, y, need_weights=False)[0],
            "mha_time_major": self.time_major(major, major, major)[0].transpose(0, 1),
            "mha_one_query": asked.squeeze(1),
            "mha_masked": self.heads(y, y, y, attn_mask=~future, need_weights=False)[0],
            "encoder": self.encoder(y),
        }


class Windows(nn.Module):
    """Convolutions, pools and normalizations over time, at every step and at every second one."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = _Steps()
        self.same = nn.Conv1d(HIDDEN, HIDDEN, 3, padding="same")
        self.padded = nn.Conv1d(HIDDEN, HIDDEN, 5, padding=2)
        self.dilated = nn.Conv1d(HIDDEN, HIDDEN, 3, padding=2, dilation=2)
        self.strided = nn.Conv1d(HIDDEN, HIDDEN, 3, stride=2, padding=1)
        self.image = nn.Conv2d(1, 2, 3, padding=1)
        self.transposed = nn.ConvTranspose1d(HIDDEN, HIDDEN, 3, stride=2, padding=1)
        self.above = nn.LSTM(HIDDEN, HIDDEN, batch_first=True, bidirectional=True)
        self.pool = nn.MaxPool1d(3, stride=1, padding=1)
        self.group = nn.GroupNorm(2, HIDDEN)
        self.instance = nn.InstanceNorm2d(2, affine=True)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = self.steps(x)
        z = y.transpose(1, 2)
        half = torch.relu(self.strided(z))
        image = self.image(y.unsqueeze(1))
        above, (h, _) = self.above(half.transpose(1, 2))
        return {
            "same": self.same(z).transpose(1, 2),
            "padded_twice": self.padded(torch.relu(self.padded(z))).transpose(1, 2),
            "dilated": self.dilated(z).transpose(1, 2),
            "causal": self.same(F.pad(z, (2, 0)))[..., :-2].transpose(1, 2),
            "padded_by_hand": F.pad(z, (1, 1)).mean(2),
            "strided_max": half.amax(2),
            "strided_mean": half.mean(2),
            "strided_last": half[..., -1],
            "strided_twice": self.strided(half).sum(2),
            "above_mean": above.mean(1),
            "above_h": h,
            "image": image.transpose(1, 2).flatten(2),
            "image_mean": image.mean((2, 3)),
            "transposed": self.transposed(z).sum(2),
            "pooled": self.pool(z).transpose(1, 2),
            "smoothed": F.avg_pool1d(z, 3, stride=1, padding=1).transpose(1, 2),
            "pooled_2d": F.max_pool2d(image, (3, 1), stride=1, padding=(1, 0)).flatten(2, 2).amax(2).flatten(1),
            "group": self.group(z).transpose(1, 2),
            "pooled_pairs": F.max_pool1d(z, 3, stride=2, padding=1).mean(2),
            "pooled_text": F.max_pool1d(torch.relu(self.same(z)), y.size(1)).squeeze(-1),
            "averaged_text": F.avg_pool1d(z, kernel_size=z.size(2)).squeeze(-1),
            "instance": self.instance(image).transpose(1, 2).flatten(2),
        }


class TimeMajor(nn.Module):
    """Time is the first axis, and heads are folded into rows by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(FEATURES, HIDDEN)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = self.gru(x)[0] + 0.5
        heads = y.reshape(y.size(0), y.size(1) * 2, HIDDEN // 2).transpose(0, 1)
        weights = torch.softmax(heads @ heads.transpose(1, 2), -1)
        joined = torch.bmm(weights, heads).transpose(0, 1).reshape(y.shape)
        return {
            "mean": y.mean(0),
            "last": y[-1],
            "kept": y[-1:].squeeze(0),
            "softmax": y.softmax(0),
            "reversed": y.flip(0),
            "heads": joined,
        }


class OwnMasks(nn.Module):
    """Has lengths in its signature and masks all that it reads, as it should; a second mask changes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, HIDDEN, batch_first=True)
        self.heads = nn.MultiheadAttention(HIDDEN, 2, batch_first=True)
        self.convolution = nn.Conv1d(HIDDEN, HIDDEN, 3, padding=1)

    def forward(self, x: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        y, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=x.size(1))
        y = y + 0.5
        real = torch.arange(x.size(1))[None, :] < lengths[:, None]
        kept = y * real.unsqueeze(-1)
        scores = y.sum(-1).masked_fill(~real, -torch.inf)
        last = y.gather(1, (lengths - 1)[:, None, None].expand(-1, 1, HIDDEN))
        return {
            "mean": kept.sum(1) / lengths[:, None],
            "mean_clamped": kept.sum(1) / real.sum(1, keepdim=True).clamp(min=1),
            "max": y.masked_fill(~real[..., None], -1e9).max(dim=1).values,
            "argmax": y.masked_fill(~real[..., None], -torch.inf).argmax(1),
            "attention": (torch.softmax(scores, 1)[..., None] * y).sum(1),
            "log_softmax": torch.log_softmax(scores, 1),
            "last": last.squeeze(1),
            "mha": self.heads(y, y, y, key_padding_mask=~real, need_weights=False)[0],
            "sdpa": F.scaled_dot_product_attention(y, y, y, attn_mask=real[:, None]),
            "convolution": self.convolution(kept.transpose(1, 2)).transpose(1, 2),
        }


class Unsafe(nn.Module):
    """Reads the padding in a way that no rewrite knows; right for a row alone."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, HIDDEN, batch_first=True)

    def read(self, y: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.lstm(x)[0] + 0.5
        return self.read(y).tanh()


class Mean(Unsafe):
    """The commonest read of all, which is rewritten."""

    def read(self, y: Tensor) -> Tensor:
        return y.mean(1)


class LastThree(Unsafe):
    def read(self, y: Tensor) -> Tensor:
        return y[:, -3:].mean(1)


class Ramp(Unsafe):
    def read(self, y: Tensor) -> Tensor:
        ramp = torch.arange(y.size(1)) / y.size(1)
        return (y * ramp[None, :, None]).sum(1)


class Appended(Unsafe):
    def read(self, y: Tensor) -> Tensor:
        longer = torch.cat([y, torch.ones_like(y[:, :1])], 1)
        return longer.mean(1)


class Reversed(Unsafe):
    def read(self, y: Tensor) -> Tensor:
        backwards = torch.arange(y.size(1) - 1, -1, -1)
        return y[:, backwards].cumsum(1)


class CentredOnBatch(Unsafe):
    def read(self, y: Tensor) -> Tensor:
        last = y[:, -1]
        return last - last.mean(0)
