"""How one store is reached: what desync's `store-options` and our configuration can say of it, as values.

Where they are read from is not known here, and nothing is looked up. No IO.

    >>> options = StoreOptions(jobs=32, headers=(("X-Team", "os"),))
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace

__all__ = ["NOTHING_SAID", "StoreOptions"]


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
    :ivar username: to log in with, in a registry say
    :ivar password: that belongs to it
    :ivar access_key: of an object store
    :ivar secret_key: that belongs to it
    :ivar session_token: that belongs to these two where they are temporary
    :ivar region: of an object store
    :ivar credentials_file: where keys of object stores are, in the form of AWS's tools
    :ivar profile: the part of that file
    :ivar uncompressed: whether chunks are written plain
    :ivar encryption: whether chunks are encrypted
    :ivar encryption_algorithm: with what; None for `xchacha20-poly1305`
    :ivar encryption_key: 64 hexadecimal digits
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
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    access_key: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    region: str | None = None
    credentials_file: str | None = None
    profile: str | None = None
    uncompressed: bool = False
    encryption: bool = False
    encryption_algorithm: str | None = None
    encryption_key: str | None = field(default=None, repr=False)

    def completed(self, others: StoreOptions) -> StoreOptions:
        """These, and from `others` what they do not say."""
        nothing = asdict(NOTHING_SAID)
        said = {name: value for name, value in asdict(self).items() if value != nothing[name]}
        return replace(others, **said)


NOTHING_SAID = StoreOptions()
"""All is left to the transport."""
