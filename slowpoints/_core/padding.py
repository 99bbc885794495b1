"""Numbers of rows that programs are compiled for."""


def rounded_up(n_rows: int) -> int:
    """Return the next of the numbers of rows that programs are compiled for, eight in each octave.

    So few that later calls, with other numbers of rows, find their programs compiled.
    """
    step = 1 << max(n_rows.bit_length() - 4, 0)
    return -(-n_rows // step) * step
