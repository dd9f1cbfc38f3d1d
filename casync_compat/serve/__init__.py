"""A server of chunks, indexes and archives over HTTP, for casync's, desync's and our own clients, and for browsers.

`application` is the ASGI application, which needs no server library and is tested without one; `server` runs it.
Between them nothing is shared but ASGI.

| module | what it knows |
| --- | --- |
| `settings` | limits and time-outs, what is served under which name |
| `routes` | what a path means |
| `access` | who may read and write what; `tokens` reads the file that says so |
| `requests`, `replies` | HTTP as values: fields, conditions, ranges |
| `chunks` | chunks in the form that a client's suffix asks for |
| `files` | indexes and archives |
| `puts` | PUT: what is checked before it is kept |
| `metrics`, `log` | what operators are told |
| `application` | how a request finds its way through all of these |
| `server` | sockets, TLS, signals |

    >>> application = Application(Served((source,), indexes), ServeSettings())
    >>> await application(scope, receive, send)
"""
