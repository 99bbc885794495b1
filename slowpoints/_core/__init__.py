"""Types, checks of arguments, files: what every room uses. Knows no network."""
