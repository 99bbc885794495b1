"""Run the gallery's scripts, and write their figures to `docs/figures/gallery`.

    python docs/gallery/make.py                 # all of them
    python docs/gallery/make.py chaos hopfield  # some of them

Figures are stripped of white margins and reduced to 256 colours, so that the page stays light.
"""

import subprocess
import sys
import time
from pathlib import Path

from PIL import Image, ImageOps

HERE = Path(__file__).parent
FIGURES = HERE.parent / "figures" / "gallery"
NAMES = sorted(path.stem for path in HERE.glob("*.py") if path.stem != "make")
MARGIN = 12  # pixels of white that are left around a figure


def make(name):
    figure = FIGURES / f"{name}.png"
    FIGURES.mkdir(exist_ok=True)
    started = time.perf_counter()
    subprocess.run([sys.executable, HERE / f"{name}.py", figure], check=True)
    image = Image.open(figure).convert("RGB")
    left, top, right, bottom = ImageOps.invert(image).getbbox()
    box = (left - MARGIN, top - MARGIN, right + MARGIN, bottom + MARGIN)
    image = ImageOps.expand(image, MARGIN, "white").crop([edge + MARGIN for edge in box])
    # The default method would give up the few pixels of a mark's colour for shades of the rest.
    image = image.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=1, dither=Image.Dither.NONE)
    image.save(figure, optimize=True)
    seconds, size = time.perf_counter() - started, figure.stat().st_size / 1000
    print(f"{name}: {seconds:.0f} s, {image.width} x {image.height} pixels, {size:.0f} kB")


if __name__ == "__main__":
    names = sys.argv[1:] or NAMES
    if unknown := sorted(set(names) - set(NAMES)):
        sys.exit(f"There is no example {unknown[0]}; there are {', '.join(NAMES)}.")
    for each in names:
        make(each)
