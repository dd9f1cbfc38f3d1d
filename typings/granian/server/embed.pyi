from pathlib import Path

from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.http import HTTP1Settings, HTTP2Settings

class Server:
    def __init__(
        self,
        target: object,
        *,
        address: str = ...,
        port: int = ...,
        interface: Interfaces = ...,
        http: HTTPModes = ...,
        websockets: bool = ...,
        backlog: int = ...,
        backpressure: int | None = ...,
        http1_settings: HTTP1Settings | None = ...,
        http2_settings: HTTP2Settings | None = ...,
        log_enabled: bool = ...,
        ssl_cert: Path | None = ...,
        ssl_key: Path | None = ...,
        ssl_protocol_min: SSLProtocols = ...,
        ssl_ca: Path | None = ...,
        ssl_client_verify: bool = ...,
    ) -> None: ...
    async def serve(self) -> None: ...
    def stop(self) -> None: ...
