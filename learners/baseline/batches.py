"""Batches of encoded rows: out of the device's memory where they fit, else streamed."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

STREAMED_ROWS = 1 << 18


class Rows(msgspec.Struct):
    """Encoded rows, oldest first: standardised numbers, places, labels, weights, times (Unix seconds).

    The arrays may be memory-mapped; all have as many rows. Labels are class numbers, or numbers (regression).
    """

    numbers: npt.NDArray[np.float32]
    places: npt.NDArray[np.int32]
    labels: npt.NDArray[np.float32]
    weights: npt.NDArray[np.float32]
    times: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.labels)


class Share(msgspec.Struct, frozen=True):
    """Which of several processes this is: each learns every ``of``-th row from ``rank`` on."""

    rank: int = 0
    of: int = 1


ALONE = Share()


class Batches:
    """Shuffled batches: out of the device's memory where all rows fit into half of what is free, else streamed.

    Streamed, blocks of rows in random order are read by a thread while the block before is learnt.
    """

    def __init__(
        self, rows: Rows, weights: npt.NDArray[np.float32], train: int, device: torch.device, share: Share
    ) -> None:
        chosen = slice(share.rank, train, share.of)
        self._rows = Rows(*(getattr(rows, name)[chosen] for name in rows.__struct_fields__))
        self._weights, self._device = weights[chosen], device
        self._train = len(self._rows)
        self._longest = -(-train // share.of)
        one_row = 4 * (rows.numbers.shape[1] + rows.places.shape[1] + 2)
        self.resident = one_row * self._train * (share.of if device.type == "cpu" else 1) < _free_bytes(device) / 2
        if self.resident:
            self._tensors = self._load(0, self._train)

    def _load(self, begin: int, end: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        arrays = (
            self._rows.numbers[begin:end], self._rows.places[begin:end], self._rows.labels[begin:end],
            self._weights[begin:end],
        )  # fmt: skip
        found = [torch.from_numpy(np.array(one)) for one in arrays]
        if self._device.type == "cuda":
            found = [one.pin_memory().to(self._device, non_blocking=True) for one in found]
        return found[0], found[1], found[2], found[3]

    def epoch(self, size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Every row once, in as many batches as each of the other processes has."""
        left = sum(-(-rows // size) for rows in self._lengths(self._longest))
        for tensors in self._blocks(generator):
            count = len(tensors[2])
            left -= -(-count // size)
            order = torch.randperm(count, generator=generator).to(self._device)
            for begin in range(0, count, size):
                chosen = order[begin : begin + size]
                yield tensors[0][chosen], tensors[1][chosen], tensors[2][chosen], tensors[3][chosen]
        for _ in range(left):
            yield tensors[0][:0], tensors[1][:0], tensors[2][:0], tensors[3][:0]

    def _lengths(self, rows: int) -> list[int]:
        """How many rows the blocks have."""
        if self.resident:
            return [rows]
        return [min(STREAMED_ROWS, rows - begin) for begin in range(0, rows, STREAMED_ROWS)]

    def _blocks(self, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        if self.resident:
            yield self._tensors
            return
        from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415  only where rows are streamed

        begins = list(range(0, self._train, STREAMED_ROWS))
        order = [begins[i] for i in torch.randperm(len(begins), generator=generator).tolist()]
        with ThreadPoolExecutor(1, "blocks") as pool:
            ahead = pool.submit(self._load, order[0], min(order[0] + STREAMED_ROWS, self._train))
            for begin in order[1:]:
                block = ahead.result()
                ahead = pool.submit(self._load, begin, min(begin + STREAMED_ROWS, self._train))
                yield block
            yield ahead.result()


def _free_bytes(device: torch.device) -> float:
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text("ascii").splitlines())
        return 1024.0 * float(lines["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        return float(2**31)
