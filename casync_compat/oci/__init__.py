"""OCI images made of casync indexes. README.md in this directory is the format, and why it is so.

Each verb of `pycasync oci` is a module with one function of its name, or near it:

    >>> from casync_compat.oci.convert import convert
    >>> from casync_compat.oci.image.conversion import ConvertOptions
    >>> from casync_compat.oci.places.opened import Places
    >>> from casync_compat.oci.spec.reference import parse_reference
    >>> source, target = parse_reference("oci:images:app"), parse_reference("docker://host/app:1")
    >>> with Places(environ=os.environ) as places:
    ...     convert(places.readable(source), source.target, places.writable(target), "1", ConvertOptions(thin=True))

Nothing outside this package imports it but the command line, and that lazily, and the module for fsspec: without the
extra `pycasync[oci]` everything but registries works.
"""
