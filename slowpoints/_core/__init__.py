"""What knows no network: checks of arguments, arrays, files, compiled programs, the version.

To read first: `arguments`, by which every public function checks what it is given, and `programs`,
which compiles, counts and keeps programs in memory and on disk.
"""
