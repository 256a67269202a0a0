"""Write a sparse model: its zeros checked and the file run before it takes its name; sizes raw and compressed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from onnxprune.cli.options import Writing
from onnxprune.cli.session import Session
from onnxprune.errors import VerificationError

if TYPE_CHECKING:
    from onnxprune.cli.sparse_run import Sparse
    from onnxprune.graph.layout import Layout

_ROWS = 30
_NOTES = 5
_LEVEL = 3  # zstd's own default


def write(here: Session, made: Sparse, given: Writing, store: str) -> dict[str, Any]:
    """Write to `given.output`, and print what came of it. Gives the same for JSON."""
    from onnxprune.graph.io import save
    from onnxprune.graph.sparse import store_sparse

    if given.output is None:
        raise ValueError("no output")
    found: dict[str, Any] = {"stored_sparse": [], "zeros": {}}
    model = made.model
    if store == "sparse":
        names = [name for target in made.wanted.targets for name in target.weight.leaves]
        found["zeros"] = _check_zeros(made, None)
        found["stored_sparse"] = store_sparse(model, names)

    def check(path: Path) -> None:
        if store == "dense":
            found["zeros"] = _check_zeros(made, path)
        if not given.no_verify:
            found["verified"] = _verify(here, made, path)

    with here.step(f"Writing {given.output}"):
        saved = save(model, given.output, layout=cast("Layout", given.layout), check=check)
    written = [saved.path, *saved.data_files]
    found |= {
        "output": str(saved.path), "data_files": [str(path) for path in saved.data_files],
        "bytes": {"before": _sizes(made.source.source_files), "after": _sizes(written)},
    }  # fmt: skip
    found.setdefault("verified", None)
    _show(here, made, found, store)
    return found


def _check_zeros(made: Sparse, path: Path | None) -> dict[str, float]:
    """The share of zeros of every target. Raises VerificationError where one does not follow its pattern."""
    from onnxprune.graph.io import load
    from onnxprune.graph.view import GraphView
    from onnxprune.sparsity.masking import follows
    from onnxprune.sparsity.stored import nonzero

    view = GraphView(made.model if path is None else load(path))
    found = {}
    for target in made.wanted.targets:
        leaves = target.weight.leaves
        kept = {name: nonzero(view.model.array(view.constants[name]), leaf) for name, leaf in leaves.items()}
        for use in target.weight.uses:
            ok, _ = follows(use, target.pattern, target.share, [kept[leaf.name] for leaf in use.operand.leaves])
            if not ok and target.pattern.kind == "nm":
                raise VerificationError(
                    f"{target.weight.name} does not follow {target.pattern} at {use.title}",
                    remedy="Nothing was written; please report this model",
                )
        zeros = sum(int(mask.size - mask.sum()) for mask in kept.values())
        found[target.weight.name] = zeros / sum(mask.size for mask in kept.values())
    return found


def _verify(here: Session, made: Sparse, path: Path) -> dict[str, Any]:
    from onnxprune.check import new_complaints
    from onnxprune.runtime.verify import verify_file

    new_complaints(made.source, path)
    return verify_file(path, made.source.path, made.bindings.shapes, {}, here.options)


def _sizes(paths: list[Path]) -> dict[str, int | None]:
    """Bytes as they are and compressed by zstd, None where it is not installed."""
    there = [path for path in dict.fromkeys(paths) if path.exists()]
    raw = sum(path.stat().st_size for path in there)
    try:
        import zstandard
    except ImportError:
        return {"raw": raw, "zstd": None}
    count = 0
    for path in there:
        compressor = zstandard.ZstdCompressor(level=_LEVEL).compressobj()
        with path.open("rb") as file:
            while part := file.read(1 << 22):
                count += len(compressor.compress(part))
        count += len(compressor.flush())
    return {"raw": raw, "zstd": count}


def _show(here: Session, made: Sparse, found: dict[str, Any], store: str) -> None:
    from onnxprune.cli.tables import together
    from onnxprune.display import amount, share
    from onnxprune.graph.sparse import break_even

    here.say(_table(made, found["zeros"], None if here.verbose else _ROWS))
    if made.moved:
        before = sum(item.before for item in made.moved) / len(made.moved)
        after = sum(item.after for item in made.moved) / len(made.moved)
        here.say_plain(
            f"{len(made.moved)} groups of channels reordered: 2:4 loses {100 * after:.1f} % of their scores, "
            f"{100 * before:.1f} % before"
        )
    notes = made.notes if here.verbose else made.notes[:_NOTES]
    for note in notes:
        here.say_plain(f"  {note}")
    if len(notes) < len(made.notes):
        here.say_plain(f"  and {len(made.notes) - len(notes)} further notes; -v shows all")
    joined = [section for section in made.sections if section.changed]
    if joined:
        here.say_plain(together(joined))
    before, after = found["bytes"]["before"], found["bytes"]["after"]
    text = f"{amount(before['raw'])}B before, {amount(after['raw'])}B now"
    if after["zstd"] is not None:
        text += f"; compressed by zstd {amount(before['zstd'])}B and {amount(after['zstd'])}B"
    here.say_plain(text)
    if store == "sparse":
        here.say_plain(
            f"{len(found['stored_sparse'])} of {len(made.wanted.targets)} weights stored sparsely, which pays above "
            f"{share(break_even(4), 1)} zeros in float32 and {share(break_even(2), 1)} in float16; "
            "ONNX Runtime reads that, TensorRT does not (`onnxprune densify`)"
        )
    checked = found["verified"]
    how = "not verified" if checked is None else f"verified in ONNX Runtime ({checked['providers'][0]})"
    here.say_plain(f"wrote {found['output']}, {how}")


def _table(made: Sparse, zeros: dict[str, float], limit: int | None) -> Any:
    from rich.table import Table

    errors = {item.name: item.error for item in made.fitted}
    table = Table(title=f"{len(made.wanted.targets)} weights made sparse by {made.method}", title_justify="left")
    for column, justify in (("weight", "left"), ("pattern", "left"), ("zeros", "right"), ("not met", "right")):
        table.add_column(column, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for target in made.wanted.targets[:limit]:
        name = target.weight.name
        error = f"{100 * errors[name]:.1f} %" if name in errors else ""
        table.add_row(name, str(target.pattern), f"{100 * zeros[name]:.1f} %", error)
    captions = []
    if limit is not None and len(made.wanted.targets) > limit:
        captions.append(f"{len(made.wanted.targets) - limit} further weights not shown; -v shows all")
    if made.wanted.left:
        why = sorted({item.why for item in made.wanted.left})
        captions.append(f"{len(made.wanted.left)} stay dense: {'; '.join(why)}")
    table.caption = "\n".join(captions) or None
    return table
