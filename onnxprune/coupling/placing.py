"""Where the members of blocks are on an axis, and in which order its indices come once they have changed places."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxprune.coupling.blocks import NONE, SEVERAL
from onnxprune.coupling.runs import distinct, numbered


class NotExchangeable(Exception):
    """Members cannot change places within their blocks, and why."""


@dataclass(frozen=True)
class Placing:
    """`tables` of indices [cells, members, repeats] with the block of each cell; members change places in their cell.

    A flat axis (`is_flat`) has the blocks on it. Another holds members alone, which change places differently for each
    block: `by` then names the axis of the same tensor that has the blocks, and the block of each of its indices.
    """

    size: int
    tables: tuple[tuple[np.ndarray, np.ndarray], ...]
    is_flat: bool
    by: tuple[int, np.ndarray] | None = None

    def order(self, choice: np.ndarray) -> np.ndarray:
        """Which index comes to each place: int64 [size], or [blocks, size] where the axis holds members alone.

        `choice` [blocks, members] says for each block which member comes to each place.
        """
        if self.is_flat:
            order = np.arange(self.size)
            for table, block in self.tables:
                order[table] = np.take_along_axis(table, choice[block][:, :, None], axis=1)
            return order
        orders = np.tile(np.arange(self.size), (len(choice), 1))
        for table, _ in self.tables:
            for mine, chosen in zip(orders, choice, strict=True):
                mine[table] = table[:, chosen]
        return orders


def place(member: np.ndarray, block: np.ndarray, word: np.ndarray, members: int) -> Placing | None:
    """The placing of an axis whose indices have these members, blocks (-1 none, -2 several) and words.

    Indices of one cell have the same block and word. None where there are no members. Raises NotExchangeable where
    they do not come in full cells.
    """
    at = np.flatnonzero(member != NONE)
    if not len(at):
        return None
    mine, block, word = member[at], block[at], word[at]
    if (mine == SEVERAL).any():
        raise NotExchangeable("an index belongs to two units at once")
    is_flat = bool((block >= 0).all())
    if not is_flat and not (block == NONE).all():
        raise NotExchangeable("indices of one axis lie in one block, in none or in several")
    cell = numbered(numbered(word)[0] * (int(block.max()) + 2) + block + 1)[0]
    count = np.bincount(cell * members + mine, minlength=(int(cell.max()) + 1) * members).reshape(-1, members)
    if (count != count[:, :1]).any():
        raise NotExchangeable("a block lacks some of the units")
    order = np.lexsort((at, mine, cell))
    first = np.cumsum(count.sum(1)) - count.sum(1)
    tables = []
    for repeats in distinct(count[:, 0]).tolist():
        start = first[count[:, 0] == repeats]
        rows = order[start[:, None] + np.arange(members * repeats)]
        tables.append((at[rows].reshape(-1, members, repeats), block[order[start]]))
    return Placing(len(member), tuple(tables), is_flat)
