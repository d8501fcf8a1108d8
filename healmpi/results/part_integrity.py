"""How far a rank's part still holds: a chain of SHA-256 with a link for what is written at the start and one for each flush.

    flushes       int64 [1 + flushes, 9], growing. A row: the counts of `committed` after a flush, then the 32 bytes of its SHA-256 as four
                  numbers. The first row is the start: counts of 0
    committed     int64 [9]: a copy of the last row of `flushes` that counts, written after everything else is on disk
    end_sha256    root attribute, text: SHA-256 of what is written at the end; only with it and with `finished` a part is finished

A digest is SHA-256 of lines, each with a newline at its end, in this order; numbers are little-endian.

    the start     attribute / NAME VALUE             each root attribute but END_ATTRIBUTES, `finished` and `end_sha256`, by name
                  attribute config NAME VALUE        the same of the groups `config` and `provenance`
                  dataset partition/NAME DIGEST      of those that are there, in the order of schema.PART_TABLES
                  table GROUP/NAME TYPE WIDTH        of the growing tables that are there, in the same order
    a flush       the 32 bytes of the row before it; then for each growing table that is there, in the same order:
                  table GROUP/NAME TYPE WIDTH START STOP
                  and, without a newline, its rows START to STOP - 1, those between the counts of the row before and of this row
    the end       flush HEX                          the last row of `flushes`, its 72 bytes
                  attribute / NAME VALUE             END_ATTRIBUTES, by name
                  attribute facts NAME VALUE         of the group `facts`
                  dataset models/NAME DIGEST         of those that are there

VALUE and DIGEST are those of integrity.py, TYPE is numpy's dtype.str, WIDTH the shape of a row: lengths joined by x, or `scalar`.

A flush that is damaged ends what counts of a part, as if the rank had been killed before it. A row of `flushes` behind the one that is in
`committed` does not count: its rank was killed in between, or the run went on from a checkpoint. Where no row is that in `committed`, which
then is damaged itself, the last one whose chain holds counts.

Growing tables have no fletcher32: each flush writes the chunk that is partly filled again, and where a SIGKILL tears that, the rows before it
are the same bytes as ever, but the checksum of the chunk would not fit, and HDF5 would not give them back.
"""
