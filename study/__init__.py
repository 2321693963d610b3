"""What to run, where, and how it is tracked."""

#: the program, as it is called on a command line
PROGRAM = "fierce"
