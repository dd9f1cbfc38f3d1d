import enum

class Interfaces(enum.StrEnum):
    ASGINL = "asginl"

class HTTPModes(enum.StrEnum):
    auto = "auto"

class SSLProtocols(enum.StrEnum):
    tls12 = "tls1.2"
