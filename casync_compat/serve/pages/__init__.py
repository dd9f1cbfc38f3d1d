"""Pages for people in a browser: what is served, trees to click through, files to download, what indexes share.

Plain HTML and one stylesheet, which works without scripts and names no other server. Paths within an archive are in the
query of an URL, where they may have any byte. `looking` reads, and is all that knows of grants; `views` and `picture`
make HTML of values; `html` is the only place where text becomes HTML; `naming` says how a download is called.

| URL | page |
| --- | --- |
| `/` | stores, indexes and archives, with sizes |
| `/-/tree?in=NAME&at=PATH` | a directory of an archive, or what is known of a file |
| `/-/file?in=NAME&at=PATH` | the file, or the blob of an index |
| `/-/sharing` | what indexes share |
| `/-/style.css` | the stylesheet |
"""
