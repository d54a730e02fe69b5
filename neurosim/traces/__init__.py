"""Traces on disk: HDF5 files written as a run goes, read by any netCDF-4 reader.

A file is netCDF-4 compatible: groups, dimension scales (`Axis`) and variables with `units`, so
`xarray.open_datatree(path, engine="h5netcdf")` opens it without neurosim. Everything in it is
created before the run starts and filled with NaN (integers: -1). From then on the file is in
HDF5's single-writer-multiple-reader (SWMR) mode: a process killed at any moment leaves
every block it flushed readable, and others can read along. `flush` hands the data to the operating
system; it survives the death of the process, not that of the machine.

The file of a process that was killed carries a mark "open for writing", for which HDF5 refuses to
open it. `open_trace` and `describe` read past the mark of a dead writer, and change no file.
"""
