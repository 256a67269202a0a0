"""Time the solver on a synthetic system of 2.3 million atoms that hangs together as a large network does.

    python tools/bench_solver.py [--repeat 5]

A transformer part (heads and head dims over fused QKV, residual width, hidden layers, all linked slot by slot, with
batch and sequence axes frozen) beside a convolutional part whose GroupNorms flatten C x H x W with H and W frozen:
1.6 million of the atoms lie on these flat axes. Prints the seconds of each stage; the target is 0.5 s for both.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from onnxprune.coupling.atoms import Atoms, Ids, Link, Links
from onnxprune.coupling.groups import Units
from onnxprune.coupling.solve import solve

BLOCKS, WIDTH, HEADS, HIDDEN, TOKENS = 12, 768, 12, 3072, 197
STAGES = ((256, 56), (512, 28), (1024, 14), (512, 14))
POINTWISE = 6  # elementwise values between two products, each a slot of its own


class Network:
    """Slots and links, made with the verbs that rules use."""

    def __init__(self) -> None:
        self.atoms, self.links, self.nodes, self.stored = Atoms(), Links(), 0, []

    def slot(self, name: str, size: int, stored: bool = False) -> Ids:
        if stored:
            self.stored.append(len(self.atoms.slots))
        return self.atoms.ids((f"{name}.{len(self.atoms.slots)}", -1, -1), 0, size)

    def link(self) -> Link:
        made = Link(self.atoms, self.nodes, f"node{self.nodes}", "Op")
        made.recorded = self.links
        self.nodes += 1
        return made

    def frozen(self, size: int) -> Ids:
        """A batch, sequence or spatial axis."""
        ids = self.slot("still", size)
        self.link().freeze(ids, "spatial axis")
        return ids

    def chain(self, ids: Ids, steps: int = POINTWISE) -> Ids:
        """The same axis through elementwise operators, each beside a frozen one."""
        for _ in range(steps):
            after, link = self.slot("y", len(ids)), self.link()
            link.same(ids, after)
            self.frozen(TOKENS)
            ids = after
        return ids

    def product(self, x: Ids, size: int) -> Ids:
        """A MatMul with a stored weight, and its bias."""
        y, link = self.slot("y", size), self.link()
        link.same(x, self.slot("w.in", len(x), stored=True))
        for name in ("w.out", "b"):
            link.same(y, self.slot(name, size, stored=True))
        return y

    def add(self, a: Ids, b: Ids) -> Ids:
        y, link = self.slot("y", len(a)), self.link()
        link.same(a, y)
        link.same(b, y)
        return y

    def split_heads(self, flat: Ids) -> tuple[Ids, Ids]:
        head, dim, link = self.slot("y", HEADS), self.slot("y", len(flat) // HEADS), self.link()
        link.factor(flat, (len(head), len(dim)), (head, dim))
        return head, dim

    def block(self, x: Ids) -> Ids:
        qkv = self.chain(self.product(self.chain(x), 3 * WIDTH))
        pieces = []
        for start in range(0, 3 * WIDTH, WIDTH):
            piece = self.slot("piece", WIDTH)
            self.link().same(qkv[start : start + WIDTH], piece)
            pieces.append(self.split_heads(piece))
        (q, q_dim), (k, k_dim), (v, v_dim) = pieces
        link = self.link()
        link.same(q, k)
        link.same(q, v)
        link.same(q_dim, k_dim)
        joined = self.slot("joined", WIDTH)
        self.link().factor(joined, (HEADS, WIDTH // HEADS), (v, v_dim))
        x = self.add(x, self.product(self.chain(joined), WIDTH))
        return self.add(x, self.product(self.chain(self.product(self.chain(x), HIDDEN)), WIDTH))

    def group_norm(self, x: Ids, side: int) -> Ids:
        """[C, H, W] reshaped to [C*H*W], scaled there, and back: the spelled-out form with one group."""
        height, width, y = self.frozen(side), self.frozen(side), self.slot("y", len(x))
        flat = self.slot("flat", len(x) * side * side)
        for channels in (x, y):
            parts = (channels, self.frozen(side), self.frozen(side)) if channels is y else (x, height, width)
            self.link().factor(flat, (len(x), side, side), parts)
        return y


def network() -> Network:
    made = Network()
    x = made.frozen(16)
    for channels, side in STAGES:
        x = made.chain(made.group_norm(made.chain(made.product(x, channels)), side))
    x = made.product(x, WIDTH)
    for _ in range(BLOCKS):
        x = made.block(x)
    made.link().freeze(made.product(x, 1000), "an output of the model")
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5)
    repeat = parser.parse_args().repeat
    solving, grouping = [], []
    for _ in range(repeat):
        made = network()
        started = time.perf_counter()
        solution = solve(made.atoms, made.links)
        solved = time.perf_counter()
        units = Units(made.atoms, solution, made.stored)
        solving.append(solved - started)
        grouping.append(time.perf_counter() - solved)
    sizes = sorted((len(g.roots) for g in units.groups), reverse=True)
    print(f"{made.atoms.count} atoms, {len(made.atoms.slots)} slots, {len(made.links.factors)} factors")
    print(f"{len(sizes)} groups, {sum(sizes)} units, conflicts: {len(solution.conflicts)}")
    print(f"solve {np.median(solving):.3f} s, groups {np.median(grouping):.3f} s, "
          f"both {np.median(np.add(solving, grouping)):.3f} s (medians of {repeat})")  # fmt: skip


if __name__ == "__main__":
    main()
