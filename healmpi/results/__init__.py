"""Results on disk: what a rank writes, how the parts become one file, whether that file is valid, and what it says.

    rows            what a rank hands over, cycle by cycle
    schema          what every dataset of a results file is: the contract of docs/results-format.md
    folder          OUT.h5.parts: names, lock, what is deleted when
    files           opening, reserving room, texts
    heaps           whether HDF5 will come to an end when it reads a file's texts
    preflight       whether OUT can be written, before the run
    writer          the part of one rank
    growing         its tables that grow
    part_checks     what a part says of itself, before it is believed
    part_integrity  how far a part is what was written
    parts           the parts of a run, as they are found
    merge           from parts to OUT
    assemble        what is written into OUT
    tables          its datasets, as declared
    integrity       digests of a merged file, and whether they hold
    structure       whether a merged file is what its version says
    verify          both, for people
    verdict         VALID or not, figures of merit
    info            what OUT says, for people

h5py is imported in this package alone, and this package imports neither torch nor MPI.
"""
