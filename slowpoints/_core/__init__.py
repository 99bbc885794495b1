"""What knows no network: checks of arguments, arrays, files, compiled programs, the version.

To read first: `arguments`, by which every public function checks what it is given, and `programs`,
which compiles what this package computes and keeps it: in memory, and on disk in `program_folder`.
"""
