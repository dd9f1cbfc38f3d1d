"""Locations - what a user gives for a file, store or index - told apart and opened.

A location is an object that is open already, a path (`bytes` or `os.PathLike`), or a locator (`str`), whose rules are
in `forms`. This room is the only one that knows which stores exist: `remote` has a row for each place of files,
`stores` and `inputs` open what is there, `settings` is what is known beyond a location, `configuration` what files say
of stores.

It reads no environment: what a command line or a program knows is passed in, as `Settings`. Only a `Configuration`
looks for files that nobody named, where the environment that it is given says.

    >>> settings = Settings(environ=os.environ)
    >>> index = open_index("oci+https://ghcr.io/me/store/disk.caibx", settings)
    >>> store = open_store("oci+https://ghcr.io/me/store", settings)
"""

from casync_compat.locations.configuration import Configuration
from casync_compat.locations.forms import (
    Scheme,
    classify,
    default_store,
    group_members,
    in_files,
    in_peer,
    in_registry,
    inside,
    is_remote,
    local_path,
    name_of,
    on_web,
    shown_name,
)
from casync_compat.locations.inputs import (
    index_location,
    index_output,
    input_path,
    open_directory,
    open_index,
    open_input,
)
from casync_compat.locations.settings import IndexPlace, PathType, Settings, Shared
from casync_compat.locations.stores import (
    chunk_cache,
    layout_of,
    open_local_store,
    open_mixed,
    open_source,
    open_store,
)

__all__ = [
    "Configuration",
    "IndexPlace",
    "PathType",
    "Scheme",
    "Settings",
    "Shared",
    "chunk_cache",
    "classify",
    "default_store",
    "group_members",
    "in_files",
    "in_peer",
    "in_registry",
    "index_location",
    "index_output",
    "input_path",
    "inside",
    "is_remote",
    "layout_of",
    "local_path",
    "name_of",
    "on_web",
    "open_directory",
    "open_index",
    "open_input",
    "open_local_store",
    "open_mixed",
    "open_source",
    "open_store",
    "shown_name",
]
