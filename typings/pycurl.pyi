"""The parts of pycurl that are used; the package has no types of its own."""

from typing import Any

version: str

class error(Exception): ...

class Curl:
    def setopt(self, option: int, value: Any, /) -> None: ...
    def getinfo(self, info: int, /) -> Any: ...
    def errstr(self) -> str: ...
    def pause(self, bits: int, /) -> None: ...
    def reset(self) -> None: ...
    def close(self) -> None: ...

class CurlMulti:
    def setopt(self, option: int, value: Any, /) -> None: ...
    def add_handle(self, handle: Curl, /) -> None: ...
    def remove_handle(self, handle: Curl, /) -> None: ...
    def socket_action(self, fd: int, events: int, /) -> tuple[int, int]: ...
    def info_read(self) -> tuple[int, list[Curl], list[tuple[Curl, int, str]]]: ...
    def assign(self, fd: int, data: object, /) -> None: ...
    def close(self) -> None: ...

CAINFO: int
CAINFO_BLOB: int
CAPATH: int
CONNECTTIMEOUT: int
CUSTOMREQUEST: int
E_ABORTED_BY_CALLBACK: int
E_COULDNT_CONNECT: int
E_COULDNT_RESOLVE_HOST: int
E_COULDNT_RESOLVE_PROXY: int
E_GOT_NOTHING: int
E_OPERATION_TIMEDOUT: int
E_PARTIAL_FILE: int
E_PEER_FAILED_VERIFICATION: int
E_RECV_ERROR: int
E_SEND_ERROR: int
E_SEND_FAIL_REWIND: int
E_SSL_CACERT_BADFILE: int
E_SSL_CERTPROBLEM: int
E_SSL_CONNECT_ERROR: int
E_UNSUPPORTED_PROTOCOL: int
E_WRITE_ERROR: int
FOLLOWLOCATION: int
HEADERFUNCTION: int
HTTPGET: int
HTTPHEADER: int
HTTP_CONTENT_DECODING: int
HTTP_VERSION: int
CURL_HTTP_VERSION_1_1: int
CURL_HTTP_VERSION_2TLS: int
INFILESIZE_LARGE: int
INFO_HTTP_VERSION: int
LOW_SPEED_LIMIT: int
LOW_SPEED_TIME: int
M_MAX_HOST_CONNECTIONS: int
M_MAX_CONCURRENT_STREAMS: int
M_MAXCONNECTS: int
M_PIPELINING: int
M_SOCKETFUNCTION: int
M_TIMERFUNCTION: int
NOBODY: int
NOPROXY: int
NOSIGNAL: int
OS_ERRNO: int
PATH_AS_IS: int
PAUSE_CONT: int
PIPEWAIT: int
PIPE_MULTIPLEX: int
POLL_IN: int
POLL_INOUT: int
POLL_NONE: int
POLL_OUT: int
POLL_REMOVE: int
POST: int
POSTFIELDSIZE_LARGE: int
PROTOCOLS: int
PROTO_HTTP: int
PROTO_HTTPS: int
PROXY: int
READFUNCTION: int
READFUNC_ABORT: int
READFUNC_PAUSE: int
CONNECT_TIME: int
RESPONSE_CODE: int
SEEKFUNCTION: int
SEEKFUNC_OK: int
SEEKFUNC_FAIL: int
SOCKET_TIMEOUT: int
SSL_VERIFYHOST: int
SSL_VERIFYPEER: int
TCP_KEEPALIVE: int
UPLOAD: int
URL: int
USERAGENT: int
WRITEFUNCTION: int
WRITEFUNC_PAUSE: int
CSELECT_IN: int
CSELECT_OUT: int
CSELECT_ERR: int
E_OK: int
E_MULTI_OK: int
EFFECTIVE_URL: int
E_FTP_COULDNT_RETR_FILE: int
E_REMOTE_FILE_NOT_FOUND: int
E_LOGIN_DENIED: int
E_HTTP2: int
SSLCERT: int
SSLKEY: int
BUFFERSIZE: int
TCP_NODELAY: int
MAXCONNECTS: int
E_SSL_CACERT: int
E_URL_MALFORMAT: int
NETRC: int
