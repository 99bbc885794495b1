"""Draw the rooms of the package, and the way that the rows of a search take through them.

    python docs/figures/rooms.py

prints the way and writes `rooms.png` to the working directory. Both are read from the package as it
is: the imports, and the calls of a search.
"""

import sys
from pathlib import Path
from typing import NamedTuple

import grimp
import jax
import matplotlib.pyplot as plt
import networkx as nx
import numpy as np

import slowpoints

PACKAGE = Path(slowpoints.__file__).parent
LEFT_OUT = ("__main__", "_demo", "flipflop", "solvers")  # files on top that show nothing new


def room_of(module):
    """Return the room of a module, `network` for `slowpoints._network.frameworks.equinox`."""
    name = [*module.split("."), ""][1]
    return "" if name in LEFT_OUT else name.lstrip("_")


def n_lines(room):
    """Return how many lines a room has, those of the rooms in it included."""
    files = PACKAGE.glob(f"_{room}.py"), PACKAGE.glob(f"_{room}/**/*.py")
    return sum(len(path.read_text().splitlines()) for group in files for path in group)


def imports_between_rooms():
    """Return the rooms as a graph whose arrows lead from what imports to what is imported."""
    modules = grimp.build_graph("slowpoints", cache_dir=None)
    rooms = nx.DiGraph()
    for module in modules.modules:
        for imported in modules.find_modules_directly_imported_by(module):
            a, b = room_of(module), room_of(imported)
            if a and b and a != b:
                rooms.add_edge(a, b)
    return rooms


def draw_rooms():
    """Draw each room below those that it imports from; arrows that others imply are left out."""
    rooms = imports_between_rooms()
    arrows = nx.transitive_reduction(rooms)
    levels = list(nx.topological_generations(rooms.reverse()))
    place = {}
    for depth, level in enumerate(levels):
        level = sorted(level, key=lambda room: np.mean([place[b][0] for b in rooms[room]] or [0]))
        for k, room in enumerate(level):
            place[room] = (k - (len(level) - 1) / 2, -depth)
    figure, ax = plt.subplots(figsize=(9, 0.8 * len(levels) + 0.5))
    style = {"boxstyle": "round,pad=0.35", "facecolor": "#E8EEF7", "edgecolor": "#3F51B5"}
    boxes = {}
    for room, (x, y) in place.items():
        text = f"{room}\n{n_lines(room):,} lines"
        boxes[room] = ax.text(x, y, text, ha="center", va="center", fontsize=8, bbox=style)
    for a, b in arrows.edges:
        # Straight to the next level; around the boxes between them to others.
        bend = 0 if place[b][1] - place[a][1] < 1.5 else 0.25 if place[a][0] >= 0 else -0.25
        arrow = {"arrowstyle": "-|>", "color": "#777777", "connectionstyle": f"arc3,rad={bend}"}
        arrow |= {"patchA": boxes[a].get_bbox_patch(), "patchB": boxes[b].get_bbox_patch()}
        ax.annotate(
            "", place[b], place[a], arrowprops=arrow | {"shrinkA": 3, "shrinkB": 3}, zorder=0
        )
    x, y = np.transpose(list(place.values()))
    ax.set(xlim=(x.min() - 0.6, x.max() + 0.6), ylim=(y.min() - 0.5, 0.5))
    ax.axis("off")
    figure.tight_layout()
    return figure


class Stay(NamedTuple):
    """A part of the rows' way: the functions of one room, called one after the other."""

    room: str
    functions: tuple[str, ...]
    names: frozenset[str]  # what the functions call the rows


N_ROWS = 37  # so many rows has nothing else in the search


def _rows_in(frame):
    """Return the names of a function's arguments that hold all rows."""
    code = frame.f_code
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    return [name for name in names if _holds_rows(frame.f_locals.get(name))]


def _holds_rows(value):
    value = getattr(value, "xstar", value)
    shape = getattr(value, "shape", ())
    return isinstance(shape, tuple) and len(shape) > 1 and shape[0] == N_ROWS


def way_of_the_rows():
    """Return the stays of a search that has been compiled, in the order in which rows come there.

    What arrays and `FixedPoints` do themselves is left out.
    """
    W = np.eye(3, dtype=np.float32) * 1.5

    def network(x, u):
        return jax.numpy.tanh(W @ x + u)

    rows = np.random.RandomState(0).randn(N_ROWS, 3).astype(np.float32)
    inputs = np.zeros(3, np.float32)
    slowpoints.find_fixed_points(network, rows, inputs)
    calls = []

    def on_event(frame, event, _):
        module = frame.f_globals.get("__name__", "")
        if event == "call" and module.startswith("slowpoints._") and room_of(module) != "core":
            names = _rows_in(frame)
            own = frame.f_code.co_name.startswith(("__", "<")) or {"self", "value"} & set(names)
            if names and not own:
                calls.append((room_of(module), frame.f_code.co_name, names))

    sys.setprofile(on_event)
    try:
        slowpoints.find_fixed_points(network, rows, inputs)
    finally:
        sys.setprofile(None)
    stays = []
    for room, function, names in calls:
        if not stays or stays[-1].room != room:
            stays.append(Stay(room, (), frozenset()))
        functions = dict.fromkeys((*stays[-1].functions, function))
        stays[-1] = Stay(room, tuple(functions), stays[-1].names | set(names))
    return stays


if __name__ == "__main__":
    draw_rooms().savefig("rooms.png", dpi=150)
    for stay in way_of_the_rows():
        print(f"{stay.room}: {', '.join(stay.functions)} ({', '.join(sorted(stay.names))})")
