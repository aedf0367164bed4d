"""Configuration of nginx, the TLS front of each worker's engine. Pure."""

from __future__ import annotations

from cluster_ai import layout
from cluster_ai.config.model import Config, Worker


def nginx(config: Config, worker: Worker) -> str:
    """The TLS front: only the head host's certificate may pass to the engine.

    The names of its own certificate and key have variables in them, so that nginx reads them at each handshake.
    """
    state, keys = layout.STATE / "front", layout.TLS
    listen = f"{layout.FRONT_PORT} ssl"
    listens = [f"listen {listen};"] + ([f"listen [::]:{listen};"] if ":" in worker.host else [])
    temporary = "\n".join(
        f"    {kind}_temp_path {state}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""\
pid {state}/nginx.pid;
error_log stderr warn;
worker_processes {max(1, min(4, worker.resources.cpu))};
worker_shutdown_timeout 1h;

events {{
    worker_connections 4096;
}}

http {{
    access_log off;
    server_tokens off;
{temporary}

    map $ssl_client_s_dn $from_head {{
        default 0;
        "~(^|,)OU=head(,|$)" 1;
    }}

    map "" $own_cert {{
        default {layout.CERT};
    }}
    map "" $own_key {{
        default {layout.KEY};
    }}

    upstream engine {{
        server 127.0.0.1:{layout.ENGINE_PORT} max_fails=0;
        keepalive {max(16, 4 * config.engine.parallel)};
        keepalive_timeout 50s;
    }}

    server {{
        {" ".join(listens)}
        ssl_certificate {keys}/$own_cert;
        ssl_certificate_key {keys}/$own_key;
        ssl_client_certificate {keys}/{layout.CA_CERT};
        ssl_verify_client on;
        ssl_protocols TLSv1.3;
        ssl_session_tickets off;
        ssl_buffer_size 4k;
        keepalive_timeout 75s;
        keepalive_requests 1000000;
        client_max_body_size {layout.FRONT_BODY_LIMIT};
        client_body_timeout 300s;

        if ($from_head = 0) {{
            return 403;
        }}
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header Host localhost:{layout.ENGINE_PORT};
        proxy_buffering off;
        proxy_request_buffering off;
        proxy_connect_timeout 5s;
        proxy_read_timeout 3600s;
        proxy_send_timeout 300s;
        proxy_next_upstream off;

        location / {{
            proxy_pass http://engine;
        }}
        location /api/blobs/ {{
            client_max_body_size 0;
            proxy_pass http://engine;
        }}
    }}
}}
"""
