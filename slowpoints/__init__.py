"""Fixed points and slow points of recurrent networks, and the linearised dynamics around them.

The core is a pipeline of pure functions; analyses, the class that BrainPy's users know, plots and
checkpoints are built on it. All public names are listed in `__init__.pyi`, and what one of them
needs (JAX, BrainPy, matplotlib, scikit-learn) loads when it is first used.
"""

import lazy_loader as _lazy

from slowpoints._core.version import __version__ as __version__

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
__all__ = [name for name in __all__ if name != "__version__"]  # pyright: ignore[reportUnsupportedDunderAll]
