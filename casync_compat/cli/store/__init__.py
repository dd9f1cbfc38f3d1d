"""`pycasync store VERB`: chunk stores as a whole. Each verb is a module here, imported when it is used."""

__all__ = ["EXAMPLES", "NOTE", "SUMMARY", "VERBS"]

SUMMARY = "chunk stores as a whole: put their chunks into packs, and take them out again"
VERBS = {
    "pack": "put the chunks of a store into packs of many, which cost few requests",
    "explode": "give each chunk of a packed store a file of its own, as casync and desync have them",
}
EXAMPLES = (
    ("pycasync store pack s3://bucket/store disk.caibx", "fewer objects, fewer requests"),
    ("pycasync store explode /srv/default.castr", "back to what casync and desync read"),
)
NOTE = (
    "Everything is copied before anything is removed, and a run that breaks off can be run again. Runs that write to "
    "the store are waited for; such as read it meanwhile may have to be run again."
)
