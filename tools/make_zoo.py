"""Exports the zoo: many architectures with both of torch's exporters, as files to prune and test.

    python tools/make_zoo.py --out build/zoo --only 'resnet*' --exporter both --jobs 1

Every export runs in a process of its own under a time limit. What exists is skipped, so that a run which was
stopped goes on where it was; failures are written to failures.json and tried again by the next run.
"""

from __future__ import annotations

import argparse
import fnmatch
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from zoo.catalogue import catalogue
from zoo.entry import EXPORTERS, Entry
from zoo.isolated import run, start_server
from zoo.store import JsonStore

BUSY = 10.0
"""Times its processor time that an export may take on a machine that does other things too."""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("build/zoo"), help="folder for files and manifest.json")
    parser.add_argument("--only", default="*", metavar="GLOB", help="architectures to export, by name")
    parser.add_argument("--exporter", choices=[*EXPORTERS, "both"], default="both")
    parser.add_argument("--jobs", type=int, default=1, help="exports at a time")
    parser.add_argument("--timeout", type=float, default=420.0, help="seconds of processor time for one export")
    parser.add_argument("--extended", action="store_true", help="also what the catalogue marks as extended")
    parser.add_argument("--list", action="store_true", help="print the catalogue and stop")
    return parser.parse_args()


def main() -> None:
    options = _arguments()
    chosen = [entry for entry in catalogue() if fnmatch.fnmatch(entry.name, options.only)]
    entries = [entry for entry in chosen if options.extended or not entry.extended]
    if options.list:
        for entry in entries:
            print(f"{entry.name:32} {entry.source:14} {entry.family:18} {' '.join(entry.files().values())}")
        return
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    manifest, failures = JsonStore(out / "manifest.json"), JsonStore(out / "failures.json")

    def work(entry: Entry, exporter: str, name: str) -> None:
        started = time.monotonic()
        arguments = (entry.name, exporter, str(out / name), options.timeout)
        record = run(export_named, arguments, BUSY * options.timeout)
        if "bytes" in record:
            manifest.put(name, record)
            failures.drop(name)
            outcome = "written"
        else:
            why = record.get("why", "no result in time")
            failures.put(name, {"error": why, "seconds": round(time.monotonic() - started, 1)})
            outcome = f"failed: {why}"
        print(f"{name:44} {time.monotonic() - started:6.1f} s  {outcome}", flush=True)

    wanted = [(e, x, f) for e in entries for x, f in e.files().items() if options.exporter in (x, "both")]
    missing = [item for item in wanted if item[2] not in manifest or not (out / item[2]).exists()]
    start_server("zoo.preload")
    from zoo.export import export_named  # imports torch, which --list does not need

    print(f"{len(wanted) - len(missing)} of {len(wanted)} files exist", flush=True)
    with ThreadPoolExecutor(options.jobs) as pool:
        for pending in [pool.submit(work, *item) for item in missing]:
            pending.result()
    failed = sum(name in failures for _, _, name in wanted)
    print(f"{len(wanted) - failed} files in {out}, {failed} failures" + (" (failures.json)" if failed else ""))


if __name__ == "__main__":
    main()
