"""One duty a file. Each reads a set, decides in a pure function, writes a set, and says in counts what it did."""
