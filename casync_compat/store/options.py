"""How one store is reached: what desync's `store-options` and our configuration can say of it, as values.

Where they are read from is not known here, and nothing is looked up. No IO.

    >>> options = StoreOptions(jobs=32, headers=(("X-Team", "os"),))
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["StoreOptions"]


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """What is said of one store; None leaves it to the transport.

    :ivar jobs: requests at a time
    :ivar timeout: seconds without a byte after which a request is given up; 0 for never
    :ivar retries: attempts after the first
    :ivar retry_interval: seconds before the second attempt
    :ivar ca_cert: a file of certificates to trust beside the system's
    :ivar client_cert: a file with the certificate to show
    :ivar client_key: a file with its key
    :ivar trust_insecure: whether a certificate that nobody vouches for will do
    :ivar authorization: the whole value of the Authorization field
    :ivar cookie: the whole value of the Cookie field
    :ivar headers: further fields for every request
    :ivar uncompressed: whether chunks are written plain
    """

    jobs: int | None = None
    timeout: float | None = None
    retries: int | None = None
    retry_interval: float | None = None
    ca_cert: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    trust_insecure: bool = False
    authorization: str | None = field(default=None, repr=False)
    cookie: str | None = field(default=None, repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    uncompressed: bool = False
