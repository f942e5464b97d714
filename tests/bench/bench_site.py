"""How long the pages of a lab take, and how large they are: `python tests/bench/bench_site.py [--nights 730]`.

Two years of nights of 40 cells with 40 figures each, by default; first all pages, then again with nothing changed.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[1]))

import lab_site

from numabench.report.site import tree


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nights", type=int, default=730)
    parser.add_argument("--figures", type=int, default=40)
    words = parser.parse_args()
    with TemporaryDirectory() as directory:
        root = Path(directory)
        kernels = ("v1", "v2", "v3", "v4")
        lab = lab_site.lab(root / "nights", nights=words.nights, workloads=10, kernels=kernels, figures=words.figures)
        for what in ("all pages", "nothing new"):
            began, of_cpu = time.monotonic(), time.process_time()
            done = tree.write(root / "site", lab)
            print(
                f"{what}: {time.monotonic() - began:.1f} s ({time.process_time() - of_cpu:.1f} s of CPU): "
                f"{done.written} of {done.pages} pages written"
            )
        sizes = sorted(
            (page.stat().st_size, page.relative_to(root / "site")) for page in (root / "site").rglob("*.html")
        )
        whole = sum(size for size, _ in sizes)
        print(f"largest page: {sizes[-1][1]}, {sizes[-1][0] / 1e3:.0f} kB; all: {whole / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
