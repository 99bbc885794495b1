"""The version, said once: the build, the package and the files of searches read it here."""

__version__ = "0.1.0"
