"""What other servers call their options, and what does the same here.

One table: the names as flags, and one line that completes "unknown option '--workers': …". A test holds every flag that
a line names against the table of options.
"""

from __future__ import annotations

__all__ = ["COUNTERPARTS", "counterpart"]

_TLS = "there is no TLS here; a proxy in front of the server does it (docs/proxies.md)"
_LOGGING = "messages go to the logger 'wsgi.server' and, where no logging is configured, to standard error"
_PROXIES = "proxies are trusted by --trusted-proxies, and their fields named by --forwarded-fields"
_LIMITS = "open connections are limited by --max-connections, waiting requests by --queue-limit"
_USER = "the process keeps its user, group and umask; a service manager sets them"
_ONE_PROCESS = "there are no worker processes; one process serves, with as many threads as --threads says"
_KINDS = "there are no kinds of workers; --threads sets the threads for WSGI, --loop the event loop for ASGI"
_FILES = "there are no static files; the application or a proxy serves them"

_GROUPS = (
    # Processes and threads.
    ("-w --workers --processes --worker-processes --cheaper", _ONE_PROCESS),
    ("--master --respawn-failed-workers --workers-lifetime --workers-kill-timeout", _ONE_PROCESS),
    ("-k --worker-class --runtime-mode --runtime-threads --gevent --asyncio --greenlet", _KINDS),
    ("--enable-threads --blocking-threads --backpressure", "the number of threads is --threads"),
    ("--max-requests --max-requests-jitter --limit-max-requests --limit-max-requests-jitter",
        "the process is never recycled; it serves until it is stopped"),
    ("--preload --preload-app --lazy --lazy-apps",
        "there are no worker processes; the application is imported once, before the server listens"),
    # Where to listen.
    ("-b --listen --insecure-bind --http-socket --socket -s", "the address is --bind HOST:PORT or --bind unix:PATH"),
    ("--uds --unix-socket", "a Unix socket is --bind unix:PATH"),
    ("--unix-socket-perms --chmod-socket", "the permissions of a Unix socket are --socket-mode"),
    ("--fd", "an inherited socket is --bind fd://N"),
    ("-p", "the port is --port; there is no file with the process id"),
    ("--http --http1-buffer-size --http2-max-concurrent-streams", "HTTP/1.1 is the only version and needs no option"),
    ("--quic-bind", "HTTP/3 is not there; the address for HTTP/1.1 is --bind HOST:PORT"),
    # The application.
    ("--factory --call --app", "a factory is called where the application is named, as in 'hello:create_app()'"),
    ("--wsgi-file --module --wsgi -a --application", "the application is named by the first argument, MODULE:APP"),
    ("--chdir --pythonpath --python-path --pp --working-dir", "the directory to import from is --app-dir"),
    ("-e --env --env-file", "variables are set before the command starts"),
    ("--paste --paster --ini --yaml --json", "the options may stand in a TOML file: --config"),
    ("-c", "the options may stand in a TOML file: --config"),
    ("--reload --reload-dir --reload-dirs --reload-include --reload-exclude --reload-engine --reload-extra-file "
        "--use-reloader --py-autoreload", "there is no reload; restart the command after a change"),
    ("--debug --dev --spew", "there is no debug mode in the server; --log-level debug says more"),
    ("--check", "--check-config imports the application and prints every option"),
    # Time.
    ("-t --timeout --harakiri --socket-timeout --timeout-worker-healthcheck --read-timeout",
        "a running request has no time limit; its waits have --queue-timeout, --body-timeout and --write-timeout"),
    ("--keepalive --timeout-keep-alive --keep-alive-timeout --channel-timeout",
        "the idle time of a connection is --keep-alive"),
    ("--timeout-graceful-shutdown --shutdown-timeout --worker-reload-mercy",
        "the time for a stop is --graceful-timeout"),
    # Limits.
    ("--limit-concurrency --connection-limit --worker-connections --listen-backlog --max-concurrency", _LIMITS),
    ("--limit-request-line", "the longest request line is --max-request-line"),
    ("--limit-request-fields", "the most header fields are --max-header-fields"),
    ("--limit-request-field-size --h11-max-incomplete-event-size --h11-max-incomplete-size --buffer-size "
        "--max-request-header-size", "the longest header of a request is --max-header-size"),
    ("--max-request-body-size --limit-post", "the longest request body is --max-body-size"),
    ("--inbuf-overflow", "what a request body takes of memory is --body-buffer"),
    # Proxies.
    ("--forwarded-allow-ips --proxy-allow-ips --proxy-headers --no-proxy-headers --proxy-mode --trusted-proxy "
        "--trusted-proxy-headers --clear-untrusted-proxy-headers --forwarder-headers --secure-scheme-headers",
        _PROXIES),
    ("--trusted-proxy-count", "the number of proxies is --forwarded-hops"),
    ("--root-path --url-prefix --url-path-prefix --mount",
        "the prefix comes from a trusted proxy: --forwarded-fields x-forwarded-prefix"),
    ("--url-scheme", "the scheme comes from a trusted proxy: --forwarded-fields x-forwarded-proto"),
    # TLS.
    ("--certfile --keyfile --ca-certs --cert-reqs --ciphers --do-handshake-on-connect --suppress-ragged-eofs "
        "--keyfile-password --verify-mode --https --https-socket", _TLS),
    # WebSockets.
    ("--ws --no-ws", "WebSockets need no option"),
    ("--ws-max-size --websocket-max-size", "the longest message is --websocket-max-message"),
    ("--ws-max-queue", "waiting messages are limited by their size, with --websocket-queue-size"),
    ("--ws-ping-interval", "the time between pings is --websocket-ping-interval"),
    ("--ws-ping-timeout", "the wait for the answer to a ping is --websocket-ping-timeout"),
    ("--ws-per-message-deflate", "compression is --websocket-compression"),
    # Logging.
    ("--access-logfile --accesslog --req-logger", "the access log is --access-log PATH"),
    ("--access-logformat --access-log-fmt --log-format", "the format of the access log is --access-log-format"),
    ("--no-access-log --disable-access-log --disable-logging -L", "the access log is off until --access-log PATH"),
    ("--error-logfile --errorlog --log-file --logto --logger --log --no-log --capture-output --log-syslog "
        "--use-colors --no-use-colors", _LOGGING),
    ("--log-config --log-config-json --log-config-dict --logger-class", f"{_LOGGING}; the application configures it"),
    ("--statsd-host --statsd-prefix --statsd-bind --stats --metrics", "there are no metrics"),
    # The process.
    ("-d --daemon --daemonize --daemonise", "there is no background mode; a service manager keeps the process"),
    ("--pid --pidfile --pid-file", "there is no file with the process id; a service manager knows it"),
    ("-u -g -m --user --group --umask --uid --gid --initgroups", _USER),
    ("-n --name --proc-name --process-name --procname", "the process has no name of its own"),
    ("-v -V", "the version is printed by --version"),
    ("-q --quiet --no-quiet", "the least severe message is --log-level"),
    # Responses.
    ("--header --server-header --no-server-header --date-header --no-date-header --ident --no-sendfile",
        "the application sets the headers of its responses"),
    ("--static-map --static-path-mount --static-path-route --check-static", _FILES),
)  # fmt: skip

COUNTERPARTS = {name: text for names, text in _GROUPS for name in names.split()}
"""What to say, by the flag of another server."""


def counterpart(flag: str) -> str:
    """Gives `: the number of threads is --threads` for a flag of another server, empty text for any other.

    Parameters:
        flag: as it was given, `-w4` and `--worker_class` included.
    """
    name = flag.lower().replace("_", "-") if flag.startswith("--") else flag[:2]
    text = COUNTERPARTS.get(name)
    if text is None and name.startswith("--ssl"):
        text = _TLS
    return f": {text}" if text else ""
